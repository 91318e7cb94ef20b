import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { Cluster } from "@/api/types";
import { useRefresh } from "@/parts/page";
import { usePolicies, useTargets } from "@/parts/queries";
import { Card, Section } from "@/ui/Bits";
import { overview as m } from "@/i18n/overview";
import { clock, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { type State, StateLabel } from "@/ui/state";
import { failingScrapes, silentSources, type Trouble, troubleNames } from "./model";
import classes from "./overview.module.css";

const useSilences = () =>
  useQuery({
    queryKey: keys.silences(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/silences", { signal }))),
    refetchInterval: useRefresh(),
  });

const useMaintenances = () =>
  useQuery({
    queryKey: keys.maintenances(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/maintenances", { signal }))),
    refetchInterval: useRefresh(),
  });

/** What is not seen here, and why: muted, idle, undeliverable, silent. What is hidden must be seen to be hidden. */
export function Hidden({ clusters }: { clusters: readonly Cluster[] }) {
  const policies = usePolicies();
  const targets = useTargets();
  const silences = useSilences();
  const maintenances = useMaintenances();
  const now = useNow();
  const active = (silences.data ?? []).filter((s) => s.status?.state === "active");
  const until = (all: readonly { readonly status?: { readonly until?: string } }[]): string => {
    const last = Math.max(0, ...all.map((s) => instant(s.status?.until) ?? 0));
    return last > 0 ? clock(last, now) : "";
  };
  const windows = (maintenances.data ?? []).filter((w) => w.status?.state === "active");
  const names = (all: readonly string[]) => `${all.slice(0, 3).join(", ")}${all.length > 3 ? " …" : ""}`;
  const idle = (policies.data ?? []).filter((p) => p.status?.state === "idle");
  const failing = (targets.data ?? []).filter((t) => t.status?.lastError);
  const [scrapes, silent] = [failingScrapes(clusters), silentSources(clusters)];
  const sum = (all: readonly Trouble[]) => all.reduce((n, t) => n + t.n, 0);
  const namesOf = (all: readonly Trouble[]) => names(troubleNames(all, clusters.length > 1));
  const lines: { key: string; text: ReactNode; state?: State }[] = [
    ...(active.length > 0
      ? [
          {
            key: "muted",
            text: (
              <Link to="/notifications" search={{ tab: "silences" }}>
                {m.hidden.silences(active.length, until(active))}
              </Link>
            ),
          },
        ]
      : []),
    ...(windows.length > 0
      ? [
          {
            key: "windows",
            text: (
              <Link to="/notifications" search={{ tab: "maintenance" }}>
                {m.hidden.windows(windows.length, until(windows))}
              </Link>
            ),
          },
        ]
      : []),
    ...(idle.length > 0
      ? [
          {
            key: "idle",
            text: (
              <Link to="/policies" search={{ filter: "gap" }}>
                {m.hidden.idle(idle.length, names(idle.map((p) => p.metadata.name)))}
              </Link>
            ),
          },
        ]
      : []),
    ...(failing.length > 0
      ? [
          {
            key: "targets",
            state: "warning" as const, // whoever should hear of an incident does not
            text: <Link to="/notifications">{m.hidden.targets(failing.length, failing.length === 1 ? `${failing[0]?.metadata.name ?? ""}: ${failing[0]?.status?.lastError ?? ""}` : names(failing.map((t) => t.metadata.name)))}</Link>,
          },
        ]
      : []),
    ...(scrapes.length > 0 ? [{ key: "scrapes", state: "warning" as const, text: <Where troubles={scrapes}>{m.hidden.scrapes(sum(scrapes), namesOf(scrapes))}</Where> }] : []),
    ...(silent.length > 0 ? [{ key: "sources", text: <Where troubles={silent}>{m.hidden.sources(sum(silent), namesOf(silent))}</Where> }] : []),
  ];
  // As long as one of these is not there, nothing can be said to be hidden or not.
  const known = policies.data !== undefined && targets.data !== undefined && silences.data !== undefined;
  if (!known && lines.length === 0) return null;
  return (
    <Section title={m.hidden.title}>
      <Card>
        {lines.length === 0 ? (
          <span className={classes.quiet}>{m.hidden.none}</span>
        ) : (
          <ul className={classes.hidden}>
            {lines.map((l) => (
              <li key={l.key}>
                <StateLabel state={l.state ?? "stale"}>{l.text}</StateLabel>
              </li>
            ))}
          </ul>
        )}
      </Card>
    </Section>
  );
}

/** Leads to the sources of the cluster that has all of the troubles, else to the clusters. */
function Where({ troubles, children }: { troubles: readonly Trouble[]; children: ReactNode }) {
  const ids = new Set(troubles.map((t) => t.cluster.id));
  const [id] = ids;
  return id !== undefined && ids.size === 1 ? (
    <Link to="/clusters/$cluster" params={{ cluster: id }} search={{ tab: "sources" }}>
      {children}
    </Link>
  ) : (
    <Link to="/clusters">{children}</Link>
  );
}
