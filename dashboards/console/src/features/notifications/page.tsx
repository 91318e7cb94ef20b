import { Button, Select, Tabs } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { items } from "@/api/client";
import { incidents } from "@/i18n/incidents";
import { notifications as m } from "@/i18n/notifications";
import { DeliveryTable } from "@/parts/deliveries/DeliveryTable";
import { Page } from "@/parts/page";
import { FirstUse } from "@/parts/policies/FirstUse";
import { useTargets } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { SearchField } from "@/ui/SearchField";
import { useTyped } from "@/ui/typed";
import type { TableProps } from "./Kept";
import { Maintenances, Silences } from "./Mutes";
import classes from "./notifications.module.css";
import { type DeliveryState, useDeliveries } from "./queries";
import { Inhibitions, Routes } from "./Routing";
import { Targets, targetState } from "./Targets";

const route = getRouteApi("/notifications");
const tabs = ["targets", "routes", "deliveries", "silences", "maintenance", "inhibitions"] as const;

export function NotificationsPage() {
  const search = route.useSearch();
  const tab = tabs.find((t) => t === search.tab) ?? "targets";
  const targets = useTargets();
  const set = useSetSearch<typeof search>();
  const failing = (targets.data ?? []).filter((t) => targetState(t) !== "ok").length;
  const table = { sort: search.sort, onSort: (sort: string) => set({ sort }) };
  return (
    <Page
      title={m.title}
      loading={targets.data === undefined && !targets.error}
      sentence={targets.data ? (targets.data.length === 0 ? m.nobody : m.sentence(targets.data.length, failing)) : undefined}
    >
      <FirstUse />
      <Tabs value={tab} onChange={(t) => set({ tab: t === "targets" ? undefined : (t ?? undefined), sort: undefined, filter: undefined })} keepMounted={false}>
        <Tabs.List>
          {tabs.map((t) => (
            <Tabs.Tab key={t} value={t}>
              {m.tabs[t]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value="targets" pt="md">
          <Targets {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="routes" pt="md">
          <Routes {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="inhibitions" pt="md">
          <Inhibitions {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="deliveries" pt="md">
          <Deliveries state={search.state} onState={(state) => set({ state })} filter={search.filter ?? ""} onFilter={(filter) => set({ filter: filter === "" ? undefined : filter })} {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="silences" pt="md">
          <Silences {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="maintenance" pt="md">
          <Maintenances {...table} />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}

const deliveryStates: readonly DeliveryState[] = ["all", "pending", "delivered", "dead", "superseded", "skipped"];

interface DeliveriesProps extends TableProps {
  readonly state: string | undefined;
  readonly onState: (state: string | undefined) => void;
  readonly filter: string;
  readonly onFilter: (filter: string) => void;
}

function Deliveries({ state, onState, filter, onFilter, sort, onSort }: DeliveriesProps) {
  const chosen = deliveryStates.find((s) => s === state) ?? "all";
  const typed = useTyped(filter, onFilter);
  // The server searches, for what is kept: it need not do so for each letter.
  const words = filter.slice(0, 500);
  const deliveries = useDeliveries(chosen, words);
  return (
    <div className={classes.stack}>
      <div className={classes.filters}>
        <SearchField typed={typed} label={m.deliveries.filter} hint={m.deliveries.filterHint} />
        <Select size="xs" aria-label={m.deliveries.states} allowDeselect={false} value={chosen} onChange={(s) => onState(s === "all" || s === null ? undefined : s)} data={deliveryStates.map((s) => ({ value: s, label: incidents.deliveries.states[s] ?? s }))} />
      </div>
      <Loaded query={deliveries} what={m.deliveries.what} skeleton={<TableSkeleton rows={8} />}>
        {(all) => (
          <DeliveryTable
            deliveries={all.pages.flatMap(items)}
            sort={sort}
            onSort={onSort}
            withIncident
            empty={words !== "" ? m.deliveries.noMatch : chosen === "all" ? m.deliveries.none : m.deliveries.noneOf(incidents.deliveries.states[chosen] ?? chosen)}
          />
        )}
      </Loaded>
      {deliveries.hasNextPage ? (
        <div>
          <Button size="xs" variant="default" loading={deliveries.isFetchingNextPage} onClick={() => void deliveries.fetchNextPage()}>
            {incidents.list.more}
          </Button>
        </div>
      ) : null}
    </div>
  );
}
