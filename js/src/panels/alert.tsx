/** What went wrong, over the picture so that nothing moves. A dialog that is open shows its own. */
import type { Page } from "../state/view";

export function AlertBar({ store, actions, view }: Page) {
  const alert = store.alert.value;
  if (!alert || view.dialog.value || alert.replace !== undefined) return null;
  const { retry, entry = 0 } = alert;
  return (
    <div class="wl-alert" role="alert">
      <span>{alert.message}</span>
      {retry ? (
        <span class="wl-choices">
          <button
            type="button"
            class="wl-main"
            onClick={() => void (retry === "jump" ? actions.jump(entry, true) : actions[retry](true))}
          >
            Restore anyway
          </button>
          <button type="button" onClick={() => actions.dismiss()}>
            Keep
          </button>
        </span>
      ) : (
        <button type="button" class="wl-ghost" aria-label="Close this message" onClick={() => actions.dismiss()}>
          ✕
        </button>
      )}
    </div>
  );
}
