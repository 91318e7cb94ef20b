import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type ClusterId, everyCluster, keys } from "@/api/keys";
import { queryHits, queryLogs } from "@/api/logsql";
import { useRange, useRefresh } from "@/parts/page";
import { alignRange, isLive, resolveRange, stepFor, type TimeRange } from "@/ui/time";
import { histogram } from "./model";

const nowSeconds = () => Math.floor(Date.now() / 1000);

/** The newest rows of the range, newest first. */
export function useLogs(cluster: ClusterId | undefined, query: string, limit: number, enabled = true) {
  const range = useRange();
  const refresh = useRefresh();
  return useQuery({
    queryKey: keys.logs(cluster ?? everyCluster, query, range.from, range.to, limit),
    queryFn: ({ signal }) => {
      const { start, end } = resolveRange(range, nowSeconds());
      return queryLogs(query, start, end, limit, signal);
    },
    refetchInterval: isLive(range) ? refresh : false,
    placeholderData: keepPreviousData,
    enabled,
    retry: false,
  });
}

/** The newest rows of a range of its own, whatever the page shows. */
export function useLogsOf(cluster: ClusterId, query: string, range: TimeRange, limit: number) {
  const refresh = useRefresh();
  return useQuery({
    queryKey: keys.logs(cluster, query, range.from, range.to, limit),
    queryFn: ({ signal }) => {
      const { start, end } = resolveRange(range, nowSeconds());
      return queryLogs(query, start, end, limit, signal);
    },
    refetchInterval: isLive(range) ? refresh : false,
    placeholderData: keepPreviousData,
    retry: false,
  });
}

/** How many rows there are in each step of the range, by level (or by an event's type). */
export function useHistogram(cluster: ClusterId | undefined, query: string, field: "level" | "type") {
  const range = useRange();
  const refresh = useRefresh();
  return useQuery({
    queryKey: keys.hits(cluster ?? everyCluster, query, range.from, range.to, field),
    queryFn: async ({ signal }) => {
      const resolved = resolveRange(range, nowSeconds());
      const step = stepFor(resolved.end - resolved.start, 1, 90);
      const { start } = alignRange(resolved, step);
      const buckets = await queryHits(query, start, resolved.end, step, field, signal);
      return histogram(buckets, start, resolved.end, step);
    },
    refetchInterval: isLive(range) ? refresh : false,
    placeholderData: keepPreviousData,
    retry: false,
  });
}
