/** What stands where the picture will be, when there is none: each state in words, with what to do. */
import type { Page } from "../state/view";

export function Face({ store, actions }: Page) {
  const hello = store.hello.value;
  if (!hello) {
    switch (store.kernel.value) {
      case "restarted":
        return (
          <Words title="The kernel was restarted">
            The model is gone with it. Run the cell again to see the new one.
          </Words>
        );
      case "busy":
        return (
          <Words title="The kernel is busy">
            A cell is running; the page fills as soon as it is done. To watch a model while it trains, run the loop in a{" "}
            <code class="wl-num">threading.Thread</code>.
          </Words>
        );
      default:
        return <Words title="Connecting to the kernel…" />;
    }
  }
  const { name, kind } = hello.tensors;
  if (name.length === 0) {
    return (
      <Words title="This model has no parameters">
        Register tensors as <code class="wl-num">nn.Parameter</code> or buffers, then press Refresh below.
      </Words>
    );
  }
  const first = name[Math.max(0, kind.indexOf("parameter"))] ?? "";
  return (
    <Words title="Pick a tensor in the tree">
      Its cells appear here, blue below zero and red above. Select some, then edit them with the buttons below.
      <button type="button" class="wl-first" onClick={() => void actions.openTensor(first)}>
        Open <span class="wl-num">{first}</span>
      </button>
    </Words>
  );
}

function Words({ title, children }: { title: string; children?: preact.ComponentChildren }) {
  return (
    <div class="wl-blank">
      <h3>{title}</h3>
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}
