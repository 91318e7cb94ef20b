import { Tabs } from "@mantine/core";
import { useSearch } from "@tanstack/react-router";
import { lazy, type ReactNode, type RefObject, Suspense, useCallback, useLayoutEffect, useMemo, useRef } from "react";
import type { Row } from "@/api/logsql";
import { objects as m } from "@/i18n/objects";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { EventView } from "@/parts/logs/EventView";
import { LogView } from "@/parts/logs/LogView";
import { Page } from "@/parts/page";
import { useCluster, useIncidents } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { Section } from "@/ui/Bits";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { count } from "@/ui/format";
import { SearchField } from "@/ui/SearchField";
import type { State } from "@/ui/state";
import { type Typed, useTyped } from "@/ui/typed";
import { ObjectGone } from "./ObjectGone";
import { ClusterLink, ClustersLink } from "./links";
import { staleSince } from "./model";
import classes from "./objects.module.css";
import { eventScope, incidentsOf, levelOfPlace, lineScope, type Place } from "./place";
import { WatchingPolicies } from "./WatchingPolicies";

const FactsAsText = lazy(() => import("./FactsAsText"));

/** A tab of its own kind of object. */
export interface ObjectTab {
  readonly value: string;
  readonly label: ReactNode;
  readonly panel: () => ReactNode;
}

interface Query<T> {
  readonly data: T | undefined;
  readonly error: Error | null;
  readonly refetch: () => unknown;
}

interface Props<T> {
  readonly place: Place;
  readonly query: Query<T>;
  readonly name: string;
  readonly kind: string;
  readonly tab?: string;
  /** The links between the cluster and this page. */
  readonly crumbs?: readonly ReactNode[];
  readonly state: State | undefined;
  readonly sentence: ReactNode;
  readonly aside?: ReactNode;
  /** The facts above the tabs; a skeleton while they are not there. */
  readonly facts: ReactNode;
  /** The first tab: charts, and what is inside. */
  readonly summary: () => ReactNode;
  readonly summaryLabel?: string;
  readonly tabs?: readonly ObjectTab[];
  /** Tabs behind those that all objects have. */
  readonly lastTabs?: readonly ObjectTab[];
  /** The workloads behind a Service, as deployment/cart. */
  readonly behind?: readonly string[];
  /** What tells lines of this object's parts apart; left out where all lines have one origin. */
  readonly origin?: (row: Row) => string;
}

/** What a page of an object keeps in its URL. */
export interface ObjectSearch {
  readonly tab?: string;
  readonly sort?: string;
  readonly filter?: string;
  readonly q?: string;
}

type ObjectChange = { readonly [K in keyof ObjectSearch]?: string | undefined };

/** The search of an object's page and how to change it; undefined takes a part away. */
export function useObjectSearch(): [ObjectSearch, (change: ObjectChange) => void] {
  const search = useSearch({ strict: false });
  return [search, useSetSearch<ObjectSearch>()];
}

/** How the table of an object's page is searched and sorted. What it is given stays the same from key to key, so that only what changed is drawn anew. */
export function useTableSearch(): { typed: Typed; kept: string; sort: string | undefined; onSort: (sort: string) => void } {
  const [{ filter = "", sort }, set] = useObjectSearch();
  const typed = useTyped(filter, (text) => set({ filter: text === "" ? undefined : text }));
  const onSort = useCallback((sort: string) => set({ sort }), [set]);
  return { typed, kept: filter, sort, onSort };
}

/** The one layout of all objects: what it is and how it is, then its charts, parts, logs, events, incidents, policies, facts. */
export function ObjectPage<T extends object>(props: Props<T>) {
  const { place, query, name, kind, tab: title, crumbs = [], state, sentence, aside, facts, summary, summaryLabel = m.tabs.summary, tabs = [], lastTabs = [], behind, origin } = props;
  const [search, set] = useObjectSearch();
  const owner = useCluster(place.cluster);
  const incidents = useIncidents("all", place.cluster);
  const mine = useMemo(() => incidentsOf(incidents.data ?? [], place), [incidents.data, place]);
  const active = mine.filter((i) => i.ended_at === null).length;
  const what = `${m.kinds[levelOfPlace(place)] ?? ""} ${name}`;
  const events = eventScope(place);
  const lines = lineScope(place, behind);
  const isCluster = levelOfPlace(place) === "cluster";
  const all: readonly ObjectTab[] = [
    { value: "summary", label: summaryLabel, panel: summary },
    ...tabs,
    {
      value: "logs",
      label: m.tabs.logs,
      panel: () =>
        lines.fixed !== undefined && !query.data ? (
          <TableSkeleton />
        ) : (
          <LogView
            cluster={place.cluster}
            scope={lines.scope}
            {...(lines.fixed === undefined ? {} : { fixed: lines.fixed })}
            what={m.logsOf(what)}
            {...(origin ? { origin } : {})}
          />
        ),
    },
    {
      value: "events",
      label: m.tabs.events,
      panel: () => (
        <EventView
          cluster={place.cluster}
          scope={events.scope}
          {...(events.fixed === undefined ? {} : { fixed: events.fixed })}
          what={m.eventsOf(what)}
          withObject={events.withObject}
        />
      ),
    },
    {
      value: "incidents",
      label: (
        <>
          {m.tabs.incidents} {active > 0 ? <span className={classes.n}>{count(active)}</span> : null}
        </>
      ),
      panel: () => (
        <Section title={m.tabs.incidents} note={m.incidentsNote}>
          <Loaded query={incidents} what={m.tabs.incidents} skeleton={<TableSkeleton rows={3} />}>
            {() => <IncidentTable incidents={mine} sort={search.sort} onSort={(sort) => set({ sort })} empty={m.noIncident(m.kinds[levelOfPlace(place)] ?? "")} />}
          </Loaded>
        </Section>
      ),
    },
    { value: "policies", label: m.tabs.policies, panel: () => <WatchingPolicies place={place} sort={search.sort} onSort={(sort) => set({ sort })} /> },
    {
      value: "facts",
      label: m.tabs.facts,
      panel: () =>
        query.data ? (
          <Suspense fallback={<TableSkeleton />}>
            <FactsAsText facts={query.data} />
          </Suspense>
        ) : (
          <TableSkeleton />
        ),
    },
    ...lastTabs,
  ];
  // Whatever stands in the URL, a tab is shown.
  const shown = all.find((t) => t.value === search.tab) ?? all[0];
  // Labels grow by the numbers in them.
  const row = useTabInView(`${shown?.value} ${query.data !== undefined} ${active}`);
  return (
    <Page
      crumbs={[<ClustersLink key="clusters" />, ...(isCluster ? [] : [<ClusterLink key="cluster" cluster={place.cluster}>{owner.data?.name}</ClusterLink>]), ...crumbs]}
      title={name}
      {...(title === undefined ? {} : { tab: title })}
      kind={kind}
      state={state}
      loading={!query.data && !query.error}
      sentence={sentence}
      staleSince={staleSince(owner.data)}
      aside={aside}
    >
      {query.error && !query.data ? (
        <ObjectGone what={m.named(m.kinds[levelOfPlace(place)] ?? "", name)} cluster={place.cluster} error={query.error} onRetry={() => void query.refetch()} />
      ) : null}
      {facts}
      <Tabs
        value={shown?.value ?? "summary"}
        onChange={(t) => set({ tab: t === null || t === "summary" ? undefined : t, q: undefined, sort: undefined, filter: undefined })}
        keepMounted={false}
      >
        <Tabs.List className={classes.tabs} ref={row}>
          {all.map((t) => (
            <Tabs.Tab key={t.value} value={t.value}>
              {t.label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {shown ? (
          <Tabs.Panel value={shown.value} pt="md">
            {shown.panel()}
          </Tabs.Panel>
        ) : null}
      </Tabs>
    </Page>
  );
}

/** A row of tabs that is wider than a phone is scrolled to the chosen one, when that or the row changed. */
function useTabInView(changed: string): RefObject<HTMLDivElement | null> {
  const row = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const list = row.current;
    const tab = list?.querySelector("[role=tab][aria-selected=true]");
    if (!list || !tab) return;
    const [outer, inner] = [list.getBoundingClientRect(), tab.getBoundingClientRect()];
    if (inner.left < outer.left || inner.right > outer.right) list.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
  }, [changed]);
  return row;
}

export const Stack = ({ children }: { children: ReactNode }) => <div className={classes.stack}>{children}</div>;

export const FilterInput = ({ typed, what }: { typed: Typed; what: string }) => <SearchField typed={typed} label={m.filterWhat(what)} hint={m.filter} width="min(260px, 42vw)" />;
