import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type ClusterId, everyCluster, keys } from "@/api/keys";
import { body, client } from "@/api/client";
import { queryFieldNames, queryFieldValues, queryHits, queryLogs, type Row } from "@/api/logsql";
import { useRange, useRefresh } from "@/parts/page";
import { alignRange, isLive, type ResolvedRange, resolveRange, stepFor, type TimeRange } from "@/ui/time";
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

/** The lines around one of the same container, the oldest first. */
export const useContext = (row: Row, enabled: boolean) =>
  useQuery({
    queryKey: keys.context(row.cluster ?? everyCluster, row._stream_id ?? "", row._time ?? ""),
    queryFn: async ({ signal }) => {
      const around = await body(
        client.GET("/apis/crowsnest.dev/v1/logs/context", {
          params: { query: { stream_id: row._stream_id ?? "", time: row._time ?? "", before: 25, after: 25, scope: "container" as const, ...(row.cluster === undefined ? {} : { cluster: [row.cluster] }) } },
          signal,
        }),
      );
      return [...around.before, ...around.lines, ...around.after].sort((a, b) => (a._time ?? "").localeCompare(b._time ?? ""));
    },
    enabled,
    staleTime: Infinity,
    retry: false,
  });

/** The address of all rows of the range as a file, streamed by the server. */
export function downloadUrl(query: string, range: TimeRange, format: "text" | "json", cluster: ClusterId | undefined, nowSeconds: number): string {
  const { start, end } = resolveRange(range, nowSeconds);
  const params = new URLSearchParams({ query, start: String(start), end: String(end), format, ...(cluster === undefined ? {} : { cluster }) });
  return `/apis/crowsnest.dev/v1/logs/download?${params}`;
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

/** Where names and values are looked for: the newest hour of the range is enough to write a query by. */
export function sampled(range: TimeRange, nowSeconds: number): ResolvedRange {
  const { start, end } = resolveRange(range, nowSeconds);
  return { start: Math.max(start, end - 3600), end };
}

/** Names change seldom; what was found stays good for a while. */
const namesFor = 60_000;
export const valuesLimit = 200;

/** The fields that rows of the query have. */
export function useFieldNames(cluster: ClusterId | undefined, query: string, enabled: boolean) {
  const range = useRange();
  return useQuery({
    queryKey: keys.fieldNames(cluster ?? everyCluster, query, range.from, range.to),
    queryFn: ({ signal }) => {
      const { start, end } = sampled(range, nowSeconds());
      return queryFieldNames(query, start, end, signal);
    },
    staleTime: namesFor,
    placeholderData: keepPreviousData,
    retry: false,
    enabled,
  });
}

/** Values of a field that rows of the query have. */
export function useFieldValues(cluster: ClusterId | undefined, query: string, field: string, enabled: boolean) {
  const range = useRange();
  return useQuery({
    queryKey: keys.fieldValues(cluster ?? everyCluster, query, field, range.from, range.to),
    queryFn: ({ signal }) => {
      const { start, end } = sampled(range, nowSeconds());
      return queryFieldValues(query, field, start, end, valuesLimit, signal);
    },
    staleTime: namesFor,
    retry: false,
    enabled: enabled && field !== "",
  });
}
