/** Beside the picture: the colour bar with its handles, and below it what colours there are. */
import { barAxis } from "../heatmap/bar";
import { lookOf } from "../heatmap/look";
import type { Actions } from "../state/actions";
import type { Store } from "../state/store";
import { BarHandles } from "./bar-handles";
import { ColourBar } from "./colour-bar";
import { ColourControls } from "./colour-controls";
import { useSeen } from "./seen-counts";

export function ColourScale({ store, actions, height }: { store: Store; actions: Actions; height: number }) {
  const { plain, colours, scale } = lookOf(store);
  const summary = store.open.value?.summary ?? null;
  const axis = store.held_axis.value ?? barAxis(scale, summary);
  return (
    <ColourBar
      {...{ summary, seen: useSeen(store, actions, axis, scale), axis, scale, colours, plain, height }}
      over={<BarHandles store={store} axis={axis} scale={scale} />}
    >
      <ColourControls store={store} actions={actions} scale={scale} />
    </ColourBar>
  );
}
