import { Link } from "@tanstack/react-router";
import { useDeferredValue, useMemo } from "react";
import type { Cluster } from "@/api/types";
import { charts as c } from "@/i18n/charts";
import { objects as m } from "@/i18n/objects";
import { ChartSkeletons } from "@/parts/charts/ChartGrid";
import { ChartPanel } from "@/parts/charts/ChartPanel";
import { type Choice, panels } from "@/parts/charts/model";
import { chartStep } from "@/parts/charts/queries";
import { useRange } from "@/parts/page";
import { useCatalogue } from "@/parts/queries";
import { Section } from "@/ui/Bits";
import { Failure } from "@/ui/Feedback";
import { useMarks, useThresholds } from "./marks";
import { lackingOf } from "./model";
import classes from "./objects.module.css";
import { type Place, placeLabels } from "./place";

interface Props {
  readonly cluster: Cluster | undefined;
  readonly level: string;
  readonly place: Place;
  /** Labels that split each metric into lines. */
  readonly by?: readonly string[];
  /** Which groups to draw; all of the level when not given. */
  readonly choice?: Choice;
  /** What a chart's title becomes, when it is drawn by something. */
  readonly titled?: (title: string) => string;
  /** The first so many only, or those after them: what is inside an object stands between. */
  readonly first?: number;
  readonly after?: number;
}

/** The catalogue's charts of one object, to stand in a ChartGrid, with what happened to it and its policies' thresholds. */
export function ObjectCharts({ cluster, level, place, by, choice, titled = (t) => t, first, after = 0 }: Props) {
  const catalogue = useCatalogue();
  const range = useRange();
  const all = useMemo(() => panels(catalogue.data ?? [], level, choice), [catalogue.data, level, choice]);
  const lacking = useMemo(() => lackingOf(cluster), [cluster]);
  // What this kind of cluster never has would be a wall of empty boxes: it is told in words, below.
  const shown = useMemo(() => all.filter((p) => !p.metrics.every((x) => lacking.has(x.name))).slice(after, first === undefined ? undefined : after + first), [all, lacking, after, first]);
  const marks = useMarks(place);
  const thresholds = useThresholds(place);
  const labels = useMemo(() => placeLabels(place), [place]);
  // What stands further down, some thirty charts, is made once what is seen first has been drawn.
  const due = useDeferredValue(true, after === 0);
  if (catalogue.error && !catalogue.data) return <Failure what={m.theCatalogue} error={catalogue.error} onRetry={() => void catalogue.refetch()} />;
  if (!catalogue.data || !cluster) return <ChartSkeletons n={choice?.only?.length ?? first ?? 4} />;
  if (!due) return <ChartSkeletons n={shown.length} />;
  const step = chartStep(range, cluster.interval_seconds);
  return (
    <>
      {shown.map((p) => (
        <ChartPanel
          key={`${p.group} ${p.unit}`}
          cluster={place.cluster}
          panel={p}
          title={titled(p.title)}
          object={labels}
          stepSeconds={step}
          lacking={lacking}
          {...(by ? { by } : {})}
          marks={marks}
          thresholds={thresholds(p.metrics.map((x) => x.name))}
          at={(minute) => ({
            logs: (
              <Link to="/logs" search={{ ...labels, ...minute }}>
                {c.logs}
              </Link>
            ),
            events: (
              <Link to="/events" search={{ cluster: place.cluster, ...(place.namespace === undefined ? {} : { namespace: place.namespace }), ...minute }}>
                {c.events}
              </Link>
            ),
          })}
        />
      ))}
    </>
  );
}

/** Which charts of the levels this cluster cannot have, and why. */
export function LackingCharts({ cluster, levels }: { cluster: Cluster | undefined; levels: readonly string[] }) {
  const catalogue = useCatalogue();
  const lacking = lackingOf(cluster);
  const missing = (catalogue.data ?? []).filter((x) => levels.includes(x.level) && lacking.has(x.name));
  if (missing.length === 0) return null;
  return (
    <Section title={m.unavailable.title}>
      <ul className={classes.lacking}>
        {missing.map((x) => (
          <li key={x.name} title={x.name}>
            {m.unavailable.why(x.title, lacking.get(x.name) ?? "")}
          </li>
        ))}
      </ul>
    </Section>
  );
}
