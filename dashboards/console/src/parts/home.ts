/** The page that the console opens with: the overview, or one that the reader chose, as it stands in the URL. */
const kept = "crowsnest.home";

/** A path within the console; anything else that may stand in the store is no home. */
export function homeOf(stored: string | null): string | undefined {
  return stored !== null && /^\/[^/\\]/.test(stored) ? stored : undefined;
}

export function home(): string | undefined {
  try {
    return homeOf(globalThis.localStorage.getItem(kept));
  } catch {
    return undefined;
  }
}

/** undefined makes it the overview again. */
export function setHome(path: string | undefined): void {
  try {
    if (path === undefined) globalThis.localStorage.removeItem(kept);
    else globalThis.localStorage.setItem(kept, path);
  } catch {
    // Forbidden by the browser: the overview stays.
  }
}
