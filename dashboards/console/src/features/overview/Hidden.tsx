import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { Cluster } from "@/api/types";
import { useRefresh } from "@/parts/page";
import { usePolicies, useTargets } from "@/parts/queries";
import { Card, Section } from "@/ui/Bits";
import { clock, instant, plural } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import classes from "./overview.module.css";

const useSilences = () =>
  useQuery({
    queryKey: keys.silences(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/silences", { signal }))),
    refetchInterval: useRefresh(),
  });

/** What is not seen here, and why: muted, idle, undeliverable, silent. What is hidden must be seen to be hidden. */
export function Hidden({ clusters }: { clusters: readonly Cluster[] }) {
  const policies = usePolicies();
  const targets = useTargets();
  const silences = useSilences();
  const now = useNow();
  const active = (silences.data ?? []).filter((s) => s.status?.state === "active");
  const last = Math.max(0, ...active.map((s) => instant(s.spec.until) ?? 0));
  const idle = (policies.data ?? []).filter((p) => p.status?.state === "idle");
  const failing = (targets.data ?? []).filter((t) => t.status?.lastError);
  const down = clusters.flatMap((c) => c.sources.filter((s) => !s.up).map((s) => ({ cluster: c, source: s })));
  const lines: { key: string; text: ReactNode }[] = [
    ...(active.length > 0
      ? [{ key: "muted", text: <Link to="/notifications" search={{ tab: "silences" }}>{`${plural(active.length, "silence")} active${last > 0 ? `, the last until ${clock(last, now)}` : ""}`}</Link> }]
      : []),
    ...(idle.length > 0 ? [{ key: "idle", text: <Link to="/policies" search={{ filter: "gap" }}>{`${plural(idle.length, "policy sees", "policies see")} nothing: ${idle.slice(0, 3).map((p) => p.metadata.name).join(", ")}${idle.length > 3 ? " …" : ""}`}</Link> }] : []),
    ...(failing.length > 0 ? [{ key: "targets", text: <Link to="/notifications">{`${plural(failing.length, "target")} cannot be reached: ${failing.slice(0, 3).map((t) => t.metadata.name).join(", ")}${failing.length > 3 ? " …" : ""}`}</Link> }] : []),
    ...(down.length > 0 ? [{ key: "sources", text: <Link to="/clusters/$cluster" params={{ cluster: down[0]?.cluster.id ?? "" }} search={{ tab: "sources" }}>{`${plural(down.length, "data source")} silent: ${down.slice(0, 3).map((d) => d.source.name).join(", ")}${down.length > 3 ? " …" : ""}`}</Link> }] : []),
  ];
  // As long as one of the three is not there, nothing can be said to be hidden or not.
  const known = policies.data !== undefined && targets.data !== undefined && silences.data !== undefined;
  if (!known && lines.length === 0) return null;
  return (
    <Section title="Not seen here">
      <Card>
        {lines.length === 0 ? (
          <span className={classes.quiet}>Nothing is muted, every policy sees something, every target answers, every source reports.</span>
        ) : (
          <ul className={classes.hidden}>
            {lines.map((l) => (
              <li key={l.key}>
                <StateLabel state="stale">{l.text}</StateLabel>
              </li>
            ))}
          </ul>
        )}
      </Card>
    </Section>
  );
}
