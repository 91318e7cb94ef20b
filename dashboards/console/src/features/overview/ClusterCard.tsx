import { Link } from "@tanstack/react-router";
import type { Cluster } from "@/api/types";
import { PartsBar, UsageBar } from "@/ui/Bars";
import { age, bytes, cores, count, duration, instant } from "@/ui/format";
import { overview as m } from "@/i18n/overview";
import { useNow } from "@/ui/now";
import { StateCount, StateIcon, stateOf, stateWords } from "@/ui/state";
import { phaseParts } from "./model";
import classes from "./overview.module.css";

/** One cluster on one card: state, freshness, nodes, workloads, pods, usage, incidents. The only one leaves its sentence to the page. */
export function ClusterCard({ cluster: c, only }: { cluster: Cluster; only: boolean }) {
  const state = stateOf(c.state);
  const now = useNow();
  const seen = instant(c.last_seen_at);
  const notReady = c.nodes.total - c.nodes.ready;
  return (
    <article className={classes.card} data-state={state} aria-label={m.cluster(c.name)}>
      <header className={classes.cardHead}>
        <StateIcon state={state} size={20} />
        <Link to="/clusters/$cluster" params={{ cluster: c.id }} className={classes.cardLink}>
          {c.name}
        </Link>
        <span className={classes.quiet}>
          {c.kind} {c.version}
        </span>
        <span className={classes.fresh} title={m.samples(c.interval_seconds)}>
          {seen === undefined ? stateWords.waiting : state === "stale" ? m.silentFor(age(c.last_seen_at, now)) : now - seen < 60 ? m.fresh : m.old(duration(now - seen))}
        </span>
      </header>
      {only ? null : <p className={classes.cardSentence}>{c.sentence}</p>}
      <div className={classes.counts}>
        <StateCount state="critical" n={notReady}>
          <b>
            {count(c.nodes.ready)}/{count(c.nodes.total)}
          </b>{" "}
          {m.nodesReady}
        </StateCount>
        <StateCount state="warning" n={c.workloads.abnormal}>
          <b>{count(c.workloads.abnormal)}</b> {m.unhealthy(count(c.workloads.total))}
        </StateCount>
      </div>
      <PartsBar name={m.pods} parts={phaseParts(c.pods)} />
      <UsageBar name={m.cpu} {...c.cpu} format={(v) => (v === null || v === undefined ? cores(v) : v < 1 ? cores(v) : m.cores(cores(v)))} />
      <UsageBar name={m.memory} {...c.memory} format={bytes} />
      <footer className={classes.cardFoot}>
        {c.incidents.critical + c.incidents.warning + c.incidents.info === 0 ? (
          <span className={classes.quiet}>{m.noActive}</span>
        ) : (
          <>
            {(["critical", "warning", "info"] as const).map((s) =>
              c.incidents[s] > 0 ? (
                <StateCount key={s} state={s} n={c.incidents[s]}>
                  {c.incidents[s]} {m.severity[s]}
                </StateCount>
              ) : null,
            )}
          </>
        )}
      </footer>
    </article>
  );
}
