import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Cluster } from "@/api/types";
import { ChartSkeletons } from "@/parts/charts/ChartGrid";
import { ChartPanel } from "@/parts/charts/ChartPanel";
import { type Choice, type ObjectLabels, panels } from "@/parts/charts/model";
import type { Mark } from "@/parts/charts/Plot";
import { chartStep } from "@/parts/charts/queries";
import type { LogScope } from "@/parts/logs/model";
import { useRange } from "@/parts/page";
import { useCatalogue } from "@/parts/queries";
import { Failure } from "@/ui/Feedback";
import { lackingOf } from "./model";

interface Props {
  readonly cluster: Cluster | undefined;
  readonly id: string;
  readonly level: string;
  readonly object: ObjectLabels;
  /** Labels that split each metric into lines. */
  readonly by?: readonly string[];
  /** Which groups to draw; all of the level when not given. */
  readonly choice?: Choice;
  readonly suffix?: string;
  /** What to look for in logs and events when a moment of a chart is picked. */
  readonly scope: LogScope;
  readonly marks?: readonly Mark[];
}

/** The catalogue's charts of one object, to stand in a ChartGrid. */
export function ObjectCharts({ cluster, id, level, object, by, choice, suffix = "", scope, marks }: Props) {
  const catalogue = useCatalogue();
  const range = useRange();
  const all = useMemo(() => panels(catalogue.data ?? [], level, choice), [catalogue.data, level, choice]);
  const lacking = useMemo(() => lackingOf(cluster), [cluster]);
  if (catalogue.error) return <Failure what="The catalogue of metrics" error={catalogue.error} onRetry={() => void catalogue.refetch()} />;
  if (!catalogue.data || !cluster) return <ChartSkeletons n={choice?.only?.length ?? 4} />;
  const step = chartStep(range, cluster.interval_seconds);
  return (
    <>
      {all.map((p) => (
          <ChartPanel
            key={`${p.group} ${p.unit}`}
            cluster={id}
            panel={p}
            title={`${p.title}${suffix}`}
            object={object}
            stepSeconds={step}
            lacking={lacking}
            {...(by ? { by } : {})}
            {...(marks ? { marks } : {})}
            at={(minute) => ({
              logs: (
                <Link to="/logs" search={{ ...scope, ...minute }}>
                  logs
                </Link>
              ),
              events: (
                <Link to="/events" search={{ ...(scope.cluster === undefined ? {} : { cluster: scope.cluster }), ...(scope.namespace === undefined ? {} : { namespace: scope.namespace }), ...minute }}>
                  events
                </Link>
              ),
            })}
          />
        ))}
    </>
  );
}
