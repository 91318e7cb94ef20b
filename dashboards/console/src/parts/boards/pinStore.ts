import type { BoardPanel } from "./model";

/** What is about to be pinned, if anything: buttons all over the console set it, the frame draws the dialog. */
let pending: BoardPanel | undefined;
const listeners = new Set<() => void>();

function set(next: BoardPanel | undefined): void {
  pending = next;
  for (const l of listeners) l();
}

export const pin = (panel: BoardPanel): void => set(panel);
export const closePin = (): void => set(undefined);
export const pendingPin = (): BoardPanel | undefined => pending;
export function onPinChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
