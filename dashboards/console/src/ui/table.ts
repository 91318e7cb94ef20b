/** Sorting of tables: pure, so that it can be tested without a browser. */
export type SortValue = string | number | null | undefined;

export interface Sort {
  readonly column: string;
  readonly descending: boolean;
}

/** "cpu" or "-cpu", as it stands in the URL. */
export function parseSort(text: string | undefined, fallback: Sort): Sort {
  if (text === undefined || text === "" || text === "-") return fallback;
  return text.startsWith("-") ? { column: text.slice(1), descending: true } : { column: text, descending: false };
}

export const sortText = (s: Sort): string => (s.descending ? `-${s.column}` : s.column);

const collator = new Intl.Collator("en", { numeric: true });

/** Rows in the order of the values. What is unknown comes last in either direction; equals keep their order. */
export function sortRows<T>(rows: readonly T[], value: (row: T) => SortValue, descending: boolean): T[] {
  const sign = descending ? -1 : 1;
  // A value may cost something, as an object's state does: each row is asked once, not with every comparison.
  return rows
    .map((row) => ({ row, value: value(row) ?? null }))
    .sort(({ value: a }, { value: b }) => {
      if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * collator.compare(String(a), String(b));
    })
    .map(({ row }) => row);
}

/**
 * The rows in the order that they had, so that the row under the pointer stays there while values
 * change. New rows come at the end.
 */
export function holdOrder<T>(rows: readonly T[], key: (row: T) => string, held: readonly string[]): T[] {
  const place = new Map(held.map((k, i) => [k, i]));
  return [...rows].sort((a, b) => (place.get(key(a)) ?? held.length) - (place.get(key(b)) ?? held.length));
}

/** Rows that have all words of the filter in their text. */
export const filterRows = <T>(rows: readonly T[], text: (row: T) => string, filter: string): T[] => searchIn(rows, text)(filter);

/** Finds rows by filter after filter, as one is typed: what a row's text is, is asked once. */
export function searchIn<T>(rows: readonly T[], text: (row: T) => string): (filter: string) => T[] {
  let texts: string[] | undefined;
  return (filter) => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return [...rows];
    const all = (texts ??= rows.map((row) => text(row).toLowerCase()));
    return rows.filter((_, i) => words.every((w) => all[i]?.includes(w) === true));
  };
}
