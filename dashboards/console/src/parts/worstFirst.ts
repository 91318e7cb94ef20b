import { type QueryKey, useQuery, useQueryClient } from "@tanstack/react-query";
import { firstItems } from "@/api/early";
import { useRefresh } from "./page";

interface Answer<T> {
  readonly items: T[] | null;
  readonly next: string | null;
}

/** A list that the server gives the worst of first. */
export interface List<T> {
  readonly items: readonly T[];
  /** There are more, which the list leaves out for good. */
  readonly more: boolean;
  /** The rest is on its way. */
  readonly partial: boolean;
}

interface Asked<T> {
  readonly key: QueryKey;
  readonly ask: (limit: number, signal: AbortSignal) => Promise<Answer<T>>;
  /** At most so many; 0 for all. */
  readonly limit?: number;
  readonly enabled?: boolean;
  /** Whether the worst are what is looked at: a table that is sorted or searched otherwise wants all of it at once. */
  readonly first: boolean;
}

const list = <T>({ items, next }: Answer<T>): List<T> => ({ items: items ?? [], more: next !== null, partial: false });

/** Whether a table shows the worst at its top: it does unless it is told otherwise. */
export const worstFirst = (sort: string | undefined) => sort === undefined || sort === "state";

/** A long list: as much of it as a window shows is there at once, the rest follows. */
export function useWorstFirst<T>({ key, ask, limit = 0, enabled = true, first }: Asked<T>) {
  const queries = useQueryClient();
  const refetchInterval = useRefresh();
  const known = queries.getQueryData(key) !== undefined;
  const head = useQuery({
    queryKey: ["first", ...key],
    queryFn: async ({ signal }): Promise<List<T>> => {
      const answer = await ask(firstItems, signal);
      // A short list is whole already.
      if (answer.next === null) queries.setQueryData(key, list(answer));
      return { ...list(answer), partial: answer.next !== null };
    },
    enabled: enabled && first && !known,
    retry: false,
    gcTime: 0,
  });
  const whole = useQuery({
    queryKey: key,
    queryFn: async ({ signal }): Promise<List<T>> => list(await ask(limit, signal)),
    refetchInterval,
    enabled: enabled && (known || !first || head.isFetched),
  });
  return { data: whole.data ?? (first ? head.data : undefined), error: whole.error, refetch: whole.refetch };
}
