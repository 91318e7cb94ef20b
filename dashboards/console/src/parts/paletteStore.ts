/** Whether the palette is open: the button of each page and the keys open it, the frame draws it. */
let open = false;
const listeners = new Set<() => void>();

function set(next: boolean): void {
  if (open === next) return;
  open = next;
  for (const l of listeners) l();
}

export const openPalette = (): void => set(true);
export const closePalette = (): void => set(false);
export const paletteIsOpen = (): boolean => open;
export function onPaletteChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
