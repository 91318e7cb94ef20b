/** Which of the frame's dialogs is open: buttons and keys open them, the frame draws them. */
export type Dialog = "palette" | "keys" | "range";

let open: Dialog | undefined;
const listeners = new Set<() => void>();

export function openDialog(dialog: Dialog | undefined): void {
  if (open === dialog) return;
  open = dialog;
  for (const l of listeners) l();
}

export const closeDialog = (): void => openDialog(undefined);
export const dialogOpen = (): Dialog | undefined => open;
export function onDialogChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
