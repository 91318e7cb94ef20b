import { SegmentedControl, Select, TextInput } from "@mantine/core";
import { IconFilter } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { useDeferredValue, useMemo } from "react";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { Page } from "@/parts/page";
import { useClusters, useIncidents } from "@/parts/queries";
import { plural } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { filterRows } from "@/ui/table";
import { incidentText } from "@/parts/incidents/model";
import classes from "./incidents.module.css";

const route = getRouteApi("/incidents");

const states = ["active", "resolved", "all"] as const;

export function IncidentsPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const state = states.find((s) => s === search.state) ?? "active";
  const clusters = useClusters();
  const incidents = useIncidents(state, search.cluster);
  const set = (change: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
  const severity = (["critical", "warning", "info"] as const).find((s) => s === search.severity);
  const filter = useDeferredValue(search.filter ?? "");
  const shown = useMemo(() => filterRows(incidents.data ?? [], incidentText, filter).filter((i) => severity === undefined || i.severity === severity), [incidents.data, filter, severity]);
  const n = incidents.data?.length ?? 0;
  return (
    <Page
      title="Incidents"
      loading={incidents.data === undefined && !incidents.error}
      {...(incidents.data && {
        sentence: { active: n === 0 ? "Nothing is firing." : `${plural(n, "incident")} active.`, resolved: `${plural(n, "incident")} resolved.`, all: `${plural(n, "incident")} in all.` }[state],
      })}
      aside={
        <SegmentedControl
          size="xs"
          aria-label="which incidents"
          value={state}
          onChange={(s) => set({ state: s === "active" ? undefined : s })}
          data={states.map((s) => ({ value: s, label: s }))}
        />
      }
    >
      <div className={classes.filters}>
        <TextInput
          size="xs"
          className={classes.filter}
          aria-label="filter incidents"
          placeholder="Filter: any words"
          leftSection={<IconFilter size={14} />}
          value={search.filter ?? ""}
          onChange={(e) => set({ filter: e.currentTarget.value === "" ? undefined : e.currentTarget.value })}
        />
        <Select size="xs" w={130} aria-label="severity" placeholder="any severity" clearable data={["critical", "warning", "info"]} value={severity ?? null} onChange={(s) => set({ severity: s ?? undefined })} />
        {(clusters.data?.length ?? 0) > 1 || search.cluster !== undefined ? (
          <Select
            size="xs"
            w={180}
            aria-label="cluster"
            placeholder="any cluster"
            clearable
            searchable
            data={(clusters.data ?? []).map((c) => ({ value: c.id, label: c.name }))}
            value={search.cluster ?? null}
            onChange={(c) => set({ cluster: c ?? undefined })}
          />
        ) : null}
      </div>
      <Loaded query={incidents} what="Incidents" skeleton={<TableSkeleton rows={6} />}>
        {() => (
          <IncidentTable
            incidents={shown}
            sort={search.sort}
            onSort={(sort) => set({ sort })}
            empty={n > 0 ? `None of ${plural(n, "incident")} matches.` : state === "active" ? "No incident is active. Policies decide what becomes one." : "No incident has been recorded yet."}
          />
        )}
      </Loaded>
    </Page>
  );
}
