import { useQuery } from "@tanstack/react-query";
import { everyCluster, keys } from "@/api/keys";
import { request } from "@/api/request";
import { useRange } from "@/parts/page";
import { useNow } from "@/ui/now";
import { resolveRange } from "@/ui/time";
import type { Family } from "./model";

/** Prometheus' answers wrap what was asked for. */
const data = async <T,>(path: string, signal: AbortSignal): Promise<T> => ((await (await request(path, { signal })).json()) as { data: T }).data;

/** Values of a label in the page's range, of all series or of those that match. Bounded: it is a list to choose from. */
export function useLabelValues(label: string, match: string | undefined, enabled = true) {
  const range = useRange();
  const now = useNow();
  return useQuery({
    queryKey: keys.labelValues(everyCluster, label, match ?? "", range.from, range.to),
    queryFn: ({ signal }) => {
      const { start, end } = resolveRange(range, now);
      const params = new URLSearchParams({ start: String(Math.floor(start)), end: String(Math.ceil(end)), limit: label === "__name__" ? "20000" : "200", ...(match === undefined ? {} : { "match[]": match }) });
      return data<string[]>(`/api/v1/label/${encodeURIComponent(label)}/values?${params}`, signal);
    },
    staleTime: 60_000,
    enabled,
  });
}

export function useLabels(match: string, enabled: boolean) {
  const range = useRange();
  const now = useNow();
  return useQuery({
    queryKey: keys.labels(everyCluster, match, range.from, range.to),
    queryFn: ({ signal }) => {
      const { start, end } = resolveRange(range, now);
      return data<string[]>(`/api/v1/labels?${new URLSearchParams({ start: String(Math.floor(start)), end: String(Math.ceil(end)), "match[]": match })}`, signal);
    },
    staleTime: 60_000,
    enabled,
  });
}

/** What sources say of their families. */
export const useFamilies = () =>
  useQuery({
    queryKey: keys.families(everyCluster),
    queryFn: ({ signal }) => data<Record<string, Family[]>>("/api/v1/metadata", signal),
    staleTime: 300_000,
  });
