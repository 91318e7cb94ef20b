import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { keys } from "@/api/keys";
import { instant } from "@/ui/format";
import { defaultRange, parseTime, type TimeRange, toRFC3339 } from "@/ui/time";

/** Shorter ranges would be all axis and no line. */
const shortestSeconds = 300;

/**
 * The range where the URL names none. On a server whose oldest sample is younger than that, it begins
 * there: an hour of nothing with a sliver at its right edge shows nothing.
 */
export function rangeSince(since: string | undefined, nowSeconds: number): TimeRange {
  const first = instant(since);
  const start = parseTime(defaultRange.from, nowSeconds) ?? nowSeconds;
  if (first === undefined || first <= start) return defaultRange;
  // By the minute, so that a refresh is no new range.
  return { from: toRFC3339(Math.floor(Math.min(first, nowSeconds - shortestSeconds) / 60) * 60), to: defaultRange.to };
}

export function useDefaultRange(): TimeRange {
  const status = useQuery({
    queryKey: keys.status(),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/status", { signal })),
    staleTime: 60_000,
    select: ({ stores, now }) => rangeSince(stores.find((s) => s.name === "metrics")?.since, (instant(now) ?? 0)),
  });
  return status.data ?? defaultRange;
}
