import { useSearch } from "@tanstack/react-router";
import { IconChevronRight, IconSearch } from "@tabler/icons-react";
import { Kbd, Skeleton, UnstyledButton } from "@mantine/core";
import { type ReactNode, useSyncExternalStore } from "react";
import { connection } from "@/api/connection";
import { charts } from "@/i18n/charts";
import { frame as m } from "@/i18n/frame";
import { ui as u } from "@/i18n/ui";
import { clock, duration } from "@/ui/format";
import { useNow } from "@/ui/now";
import { type State, StateIcon } from "@/ui/state";
import type { TimeRange } from "@/ui/time";
import classes from "./page.module.css";
import { openDialog } from "./dialogs";
import { useDefaultRange } from "./defaultRange";
import { RefreshPicker } from "./RefreshPicker";
import { RangePicker } from "./RangePicker";
import { useSetSearch } from "./search";

/** What every page's URL has: the time range and how often the page refreshes. */
export interface SharedSearch {
  readonly from?: string;
  readonly to?: string;
  readonly refresh?: string;
  readonly compare?: string;
}

/** These go along from page to page. */
export const sharedKeys = ["from", "to", "refresh", "compare"] as const;

export const sharedSearch = (raw: Record<string, unknown>): SharedSearch => ({
  ...text(raw, "from"),
  ...text(raw, "to"),
  ...text(raw, "refresh"),
  ...text(raw, "compare"),
});

/** A search parameter that is text, for validateSearch. */
export function text<K extends string>(raw: Record<string, unknown>, key: K): Partial<Record<K, string>> {
  const value = raw[key];
  return typeof value === "string" && value !== "" ? ({ [key]: value } as Record<K, string>) : {};
}

export function useRange(): TimeRange {
  const { from, to } = useSearch({ strict: false });
  const unsaid = useDefaultRange();
  return { from: from ?? unsaid.from, to: to ?? unsaid.to };
}

/** Sets the range of this page and of those that are opened from it. */
export function useSetRange(): (range: TimeRange) => void {
  const set = useSetSearch<SharedSearch>();
  return ({ from, to }) => set({ from, to });
}

/** What charts can be held against. */
export const comparisons = [
  { value: "", label: charts.compare.none, words: "", seconds: 0 },
  { value: "1d", label: charts.compare.day, words: charts.compare.dayBefore, seconds: 86_400 },
  { value: "1w", label: charts.compare.week, words: charts.compare.weekBefore, seconds: 604_800 },
] as const;

export function useCompare(): (typeof comparisons)[number] {
  const { compare } = useSearch({ strict: false });
  return comparisons.find((c) => c.value === compare) ?? comparisons[0];
}

export function useSetCompare(): (value: string) => void {
  const set = useSetSearch<SharedSearch>();
  return (value) => set({ compare: value === "" ? undefined : value });
}

export const refreshes = [
  { value: "off", label: m.refresh.off, millis: false },
  { value: "10s", label: u.seconds("10"), millis: 10_000 },
  { value: "30s", label: u.seconds("30"), millis: 30_000 },
  { value: "1m", label: u.minutes(1), millis: 60_000 },
  { value: "5m", label: u.minutes(5), millis: 300_000 },
] as const;

export const defaultRefresh = "30s";

/** Milliseconds between refreshes, or false for none. */
export function useRefresh(): number | false {
  const { refresh } = useSearch({ strict: false });
  return refreshes.find((r) => r.value === (refresh ?? defaultRefresh))?.millis ?? 30_000;
}

/** As it stands on keyboards. */
const findKeys = ["Ctrl", "K"].join(" ");

export interface Crumb {
  readonly label: string;
  readonly link: ReactNode;
}

interface PageProps {
  /** The links above this page; the page itself is the title. */
  readonly crumbs?: readonly ReactNode[];
  readonly title: string;
  /** What the browser's tab says; the title when not given. */
  readonly tab?: string;
  readonly kind?: string;
  readonly state?: State | undefined;
  /** The page's first line, as a person would say it. */
  readonly sentence?: ReactNode;
  readonly loading?: boolean;
  readonly aside?: ReactNode;
  /** Milliseconds since the epoch until when data reaches, when it is old. */
  readonly staleSince?: number | undefined;
  readonly children: ReactNode;
}

/** The frame of a page: its place, its name and state, its one sentence, and then the page. */
export function Page({ crumbs = [], title, tab, kind, state, sentence, loading, aside, staleSince, children }: PageProps) {
  const { reachable, troubled } = useSyncExternalStore(connection.subscribe, connection.get);
  const away = !reachable || troubled;
  return (
    <>
      <title>{`${tab ?? title} · Crowsnest`}</title>
      <header className={classes.top}>
        <nav aria-label={m.breadcrumbs} className={classes.crumbs}>
          {crumbs.map((c, i) => (
            <span key={i} className={classes.crumb}>
              {c}
              <IconChevronRight size={14} aria-hidden />
            </span>
          ))}
          <span className={classes.here} aria-current="page">
            {title}
          </span>
        </nav>
        <div className={classes.tools}>
          <UnstyledButton className={classes.find} onClick={() => openDialog("palette")} aria-label={m.findKeys}>
            <IconSearch size={15} aria-hidden />
            <span className={classes.findText}>{m.find}</span>
            <Kbd size="xs" className={classes.findText}>
              {findKeys}
            </Kbd>
          </UnstyledButton>
          <RangePicker />
          <RefreshPicker />
        </div>
      </header>
      {away ? <Unreachable /> : null}
      <main className={classes.main} data-old={away || undefined}>
        <div className={classes.title}>
          {state === undefined ? null : <StateIcon state={state} size={22} />}
          <h1>{title}</h1>
          {kind === undefined ? null : <span className={classes.kind}>{kind}</span>}
          {staleSince === undefined ? null : <DataUntil at={staleSince} />}
          {aside === undefined ? null : <div className={classes.aside}>{aside}</div>}
        </div>
        {loading === true ? (
          <Skeleton height={12} width="min(420px, 70%)" my={5} />
        ) : sentence === undefined ? null : (
          <p className={classes.sentence}>{sentence}</p>
        )}
        <div className={classes.body}>{children}</div>
      </main>
    </>
  );
}

function Unreachable() {
  const now = useNow();
  const { reachable, lastAnswerAt } = useSyncExternalStore(connection.subscribe, connection.get);
  return (
    <div className={classes.unreachable} role="status">
      <StateIcon state="stale" silent />
      {reachable ? m.troubled : `${m.unreachable} ${lastAnswerAt === undefined ? m.retrying : m.lastAnswer(duration(now - lastAnswerAt / 1000))}`}
    </div>
  );
}

function DataUntil({ at }: { at: number }) {
  const now = useNow();
  return (
    <span className={classes.until}>
      <StateIcon state="stale" size={14} silent /> {m.dataUntil(clock(at / 1000, now))}
    </span>
  );
}
