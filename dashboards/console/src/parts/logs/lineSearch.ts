import { useSearch } from "@tanstack/react-router";
import { useSetSearch } from "@/parts/search";

/** What of a search of lines or events stands in the URL. */
export interface LineSearch {
  /** LogsQL, as it was typed. */
  readonly typed: string;
  readonly form: boolean;
  readonly wrap: boolean;
  readonly live: boolean;
}

/** The search of the page, and how to change it. */
export function useLineSearch(): [LineSearch, (change: Partial<LineSearch>) => void] {
  const { q, form, wrap, live } = useSearch({ strict: false });
  const setSearch = useSetSearch<Record<string, string>>();
  const set = (change: Partial<LineSearch>) =>
    setSearch({
      ...(change.typed === undefined ? {} : { q: change.typed === "" ? undefined : change.typed }),
      ...flag("form", change.form),
      ...flag("wrap", change.wrap),
      ...flag("live", change.live),
    });
  return [{ typed: q ?? "", form: form === "1", wrap: wrap === "1", live: live === "1" }, set];
}

const flag = (name: string, on: boolean | undefined): Record<string, string | undefined> => (on === undefined ? {} : { [name]: on ? "1" : undefined });
