import { SegmentedControl } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { Page } from "@/parts/page";
import { useIncidents } from "@/parts/queries";
import { plural } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";

const route = getRouteApi("/incidents");

const states = ["active", "resolved", "all"] as const;

export function IncidentsPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const state = states.find((s) => s === search.state) ?? "active";
  const incidents = useIncidents(state);
  const set = (change: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
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
      <Loaded query={incidents} what="Incidents" skeleton={<TableSkeleton rows={6} />}>
        {(list) => (
          <IncidentTable
            incidents={list}
            sort={search.sort}
            onSort={(sort) => set({ sort })}
            empty={state === "active" ? "No incident is active. Policies decide what becomes one." : "No incident has been recorded yet."}
          />
        )}
      </Loaded>
    </Page>
  );
}
