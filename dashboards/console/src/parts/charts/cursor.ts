/** The point under the cursor of one chart: kept outside React, so that only the legend draws anew as it moves. */
export class CursorStore {
  #index: number | null = null;
  readonly #listeners = new Set<() => void>();

  readonly get = (): number | null => this.#index;

  readonly set = (index: number | null): void => {
    if (index === this.#index) return;
    this.#index = index;
    for (const l of this.#listeners) l();
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}
