import { useQuery } from "@tanstack/react-query";
import { useLocation, useSearch } from "@tanstack/react-router";
import { createContext, useContext } from "react";
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

/** Whether a page shows log lines or events, which may be older than the first sample: containers wrote before anybody measured them. */
export const showsLines = (pathname: string, tab: string | undefined): boolean => /^\/(logs|events)\/?$/.test(pathname) || (pathname.startsWith("/clusters/") && (tab === "logs" || tab === "events"));

/** Of a page that is about a time of its own, as an incident's: its range where the URL names none. */
export const OwnRange = createContext<TimeRange | undefined>(undefined);

export function useDefaultRange(): TimeRange {
  const own = useContext(OwnRange);
  const { pathname } = useLocation();
  const { tab } = useSearch({ strict: false });
  const status = useQuery({
    queryKey: keys.status(),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/status", { signal })),
    staleTime: 60_000,
    select: ({ stores, now }) => rangeSince(stores.find((s) => s.name === "metrics")?.since, (instant(now) ?? 0)),
  });
  return own ?? (showsLines(pathname, tab) ? defaultRange : (status.data ?? defaultRange));
}
