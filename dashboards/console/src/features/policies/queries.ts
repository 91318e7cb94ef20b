import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useMutation, useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { body, client } from "@/api/client";
import { everyCluster, keys } from "@/api/keys";
import { queryInstant, queryRange, quote, type RangeResult, type Sample } from "@/api/prometheus";
import type { Metric, Policy } from "@/api/types";
import { useRange, useRefresh } from "@/parts/page";
import { alignRange, isLive, resolveRange, seconds, type TimeRange } from "@/ui/time";
import { type Condition, conditionQuery, type Draft, identity, lowIsBad, nameLabel, severities, type Severity, type Spec, toPolicy } from "./draft";
import { type Bin, binned, binsFor, givenThresholds, highestOf, spreadQuery } from "./spread";

export const usePolicy = (name: string) =>
  useQuery({
    queryKey: keys.policy(name),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/policies/{name}", { params: { path: { name } }, signal })),
    refetchInterval: useRefresh(),
  });

/** What a policy's write changes: the list, itself, and what the alerts of it made. */
function useWritten() {
  const queries = useQueryClient();
  return async (policy?: Policy) => {
    if (policy) queries.setQueryData(keys.policy(policy.metadata.name), policy);
    await Promise.all([queries.invalidateQueries({ queryKey: ["policies"] }), queries.invalidateQueries({ queryKey: ["policy"] }), queries.invalidateQueries({ queryKey: ["alerts"] })]);
  };
}

/** Creates a draft, or replaces the revision that it was made from. */
export function useSavePolicy() {
  const written = useWritten();
  return useMutation({
    mutationFn: ({ draft, force }: { draft: Draft; force: boolean }) =>
      draft.revision === undefined
        ? body(client.POST("/apis/crowsnest.dev/v1/policies", { body: toPolicy(draft) }))
        : body(client.PUT("/apis/crowsnest.dev/v1/policies/{name}", { params: { path: { name: draft.name }, query: force ? { force } : {} }, body: toPolicy(draft) })),
    onSuccess: (policy) => written(policy),
  });
}

export function useEnablePolicy() {
  const written = useWritten();
  return useMutation({
    mutationFn: ({ policy, enabled, force }: { policy: Policy; enabled: boolean; force: boolean }) =>
      body(
        client.PUT("/apis/crowsnest.dev/v1/policies/{name}", {
          params: { path: { name: policy.metadata.name }, query: force ? { force } : {} },
          body: { apiVersion: policy.apiVersion, kind: policy.kind, metadata: policy.metadata, spec: { ...policy.spec, enabled } },
        }),
      ),
    onSuccess: (policy) => written(policy),
  });
}

/** Switches a policy on or off by its name, whoever made it. */
export function useSwitchPolicy() {
  const written = useWritten();
  return useMutation({
    mutationFn: ({ name, enabled }: { name: string; enabled: boolean }) => {
      const params = { path: { name }, query: { force: true } };
      return body(enabled ? client.POST("/apis/crowsnest.dev/v1/policies/{name}/enable", { params }) : client.POST("/apis/crowsnest.dev/v1/policies/{name}/disable", { params }));
    },
    onSuccess: (policy) => written(policy),
  });
}

export function useDeletePolicy() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/policies/{name}", { params: { path: { name } } }),
    onSuccess: async (_, name) => {
      queries.removeQueries({ queryKey: keys.policy(name) });
      await queries.invalidateQueries({ queryKey: ["policies"] });
    },
  });
}

/** What the server says of a draft without keeping it: what is wrong with it, or what it would do at this moment. */
export function useTrial(draft: Draft) {
  const { metadata, ...rest } = toPolicy({ ...draft, revision: undefined });
  const policy = { ...rest, metadata };
  const text = JSON.stringify(policy);
  const [settled] = useDebouncedValue(text, 500);
  return useQuery({
    queryKey: keys.trial(settled),
    queryFn: ({ signal }) => {
      const sent = JSON.parse(settled) as Policy;
      const query = { dryRun: true, force: true };
      // A draft of what exists is tried as its next revision, a new one as a new policy.
      return draft.revision === undefined
        ? body(client.POST("/apis/crowsnest.dev/v1/policies", { params: { query }, body: sent, signal }))
        : body(client.PUT("/apis/crowsnest.dev/v1/policies/{name}", { params: { path: { name: draft.name }, query }, body: sent, signal }));
    },
    placeholderData: keepPreviousData,
    retry: false,
    refetchInterval: 60_000,
  });
}

const drawn = 12;

/** Only the length matters here, which is the same at any time for a range that ends now. */
function length(range: TimeRange): number {
  const { start, end } = resolveRange(range, Math.floor(Date.now() / 1000));
  return end - start;
}

export interface PreviewAnswer {
  /** Objects that have a value now. */
  readonly matching: number | undefined;
  /** How many of them are beyond each threshold now, those of a worse severity included. */
  readonly beyond: Readonly<Partial<Record<Severity, number>>>;
  /** The objects that came nearest to the threshold, over the page's range. */
  readonly range: RangeResult | undefined;
  readonly stepSeconds: number;
  readonly loading: boolean;
  readonly error: Error | null;
}

/** What a condition would see: counts of now, and the course of the worst objects over the page's range. */
export function usePreview(spec: Spec, condition: Condition, metric: Metric): PreviewAnswer {
  const range = useRange();
  const period = seconds(condition.period) ?? 60;
  const stepSeconds = Math.max(period, Math.ceil(length(range) / 300 / period) * period);
  const value = conditionQuery(spec, condition, metric);
  const worst = `${lowIsBad(condition) ? "bottomk" : "topk"}(${drawn}, ${value})`;
  const given = severities.filter((s) => condition.thresholds[s] !== undefined);
  const instant = (query: string) => ({
    queryKey: keys.instant(everyCluster, query),
    queryFn: ({ signal }: { signal: AbortSignal }) => queryInstant(query, signal),
    // A draft changes with each letter: what was seen stays until the next is there.
    placeholderData: keepPreviousData,
    staleTime: 15_000,
  });
  const counts = useQueries({
    queries: [`count(${value})`, ...given.map((s) => `count(${value} ${condition.op} ${condition.thresholds[s] ?? 0})`)].map(instant),
  });
  const top = useQuery(instant(worst));
  // Only the worst are drawn: their names narrow the query to what a chart can hold.
  const label = nameLabel(spec.level);
  const names = [...new Set((top.data ?? []).map((s) => s.labels[label] ?? ""))].sort();
  const query = conditionQuery(spec, condition, metric, names.length === 0 ? [] : [`${label}=~${quote(names.map((n) => n.replace(/[.+*?^${}()|[\]\\]/g, "\\$&")).join("|"))}`]);
  const course = useQuery({
    queryKey: keys.range(everyCluster, query, range.from, range.to, stepSeconds),
    queryFn: ({ signal }) => {
      const at = alignRange(resolveRange(range, Math.floor(Date.now() / 1000)), stepSeconds);
      return queryRange(query, at.start, at.end, stepSeconds, signal);
    },
    enabled: names.length > 0,
    placeholderData: keepPreviousData,
    staleTime: 15_000,
    refetchInterval: isLive(range) ? 60_000 : false,
  });
  const [all, ...each] = counts;
  const countOf = (data: Sample[] | undefined) => (data === undefined ? undefined : (data[0]?.value ?? 0));
  const error = [top, course, ...counts].find((q) => q.error)?.error ?? null;
  const shown = course.data && { ...course.data, series: course.data.series.filter((s) => keep(s.labels, top.data ?? [], spec.level, metric)) };
  return {
    matching: countOf(all?.data),
    beyond: Object.fromEntries(given.map((s, i) => [s, countOf(each[i]?.data) ?? 0])),
    range: names.length === 0 && top.data ? { times: [], stepSeconds, series: [] } : shown,
    stepSeconds,
    loading: (top.isFetching || course.isFetching) && course.data === undefined,
    error,
  };
}

const week = 7 * 86_400;

function hourly(query: string, signal: AbortSignal): Promise<RangeResult> {
  const end = Math.floor(Date.now() / 3_600_000) * 3600;
  return queryRange(query, end - week, end, 3600, signal);
}

/** How a condition's values lay over the last seven days, a value an hour and object. */
export function useSpread(spec: Spec, condition: Condition, metric: Metric): { bins: Bin[] | undefined; error: Error | null } {
  const value = conditionQuery(spec, condition, metric);
  const high = `max(${value})`;
  const highest = useQuery({ queryKey: keys.instant(everyCluster, high), queryFn: ({ signal }) => queryInstant(high, signal), placeholderData: keepPreviousData, staleTime: 60_000 });
  const bins = binsFor(givenThresholds(condition), metric.chart.max ?? undefined, highestOf(highest.data));
  const query = spreadQuery(value, bins);
  const answer = useQuery({
    queryKey: keys.range(everyCluster, query, "now-7d", "now", 3600),
    queryFn: ({ signal }) => hourly(query, signal),
    enabled: highest.data !== undefined,
    placeholderData: keepPreviousData,
    staleTime: 300_000,
  });
  const counts = useMemo(() => {
    if (!answer.data) return undefined;
    return new Map(answer.data.series.map((s) => [Number(s.labels.bin), s.values.reduce((sum: number, v) => sum + (v ?? 0), 0)]));
  }, [answer.data]);
  return { bins: counts && binned(counts, bins), error: answer.error ?? highest.error };
}

/** Names alone may match objects of other namespaces, too. */
function keep(labels: Readonly<Record<string, string>>, top: readonly Sample[], level: string, metric: Metric): boolean {
  const ids = identity(level, metric);
  return top.some((t) => ids.every((l) => t.labels[l] === labels[l]));
}
