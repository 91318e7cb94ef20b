import { useEffect, useMemo, useSyncExternalStore } from "react";
import { useRange, useRefresh } from "@/parts/page";
import { isLive, resolveRange } from "@/ui/time";
import classes from "./sparks.module.css";
import { type SparkMetric, SparkStore, sparkKey, sparkPath } from "./store";

/** The spark lines of a table's column over the page's range, asked for as rows come into view. */
export function useSparks(metric: SparkMetric, cluster: string): SparkStore {
  const range = useRange();
  const refresh = useRefresh();
  const { from, to } = range;
  const store = useMemo(() => new SparkStore(metric, cluster, (now) => resolveRange({ from, to }, now)), [metric, cluster, from, to]);
  const live = isLive(range);
  useEffect(() => {
    const timer = live && refresh !== false ? setInterval(() => store.refresh(), refresh) : undefined;
    return () => {
      clearInterval(timer);
      store.stop();
    };
  }, [store, live, refresh]);
  return store;
}

const width = 64;
const height = 18;

/** A row's line. It says nothing that the number beside it does not, so readers of the page are not told of it. */
export function Spark({ store, of, top }: { store: SparkStore; of: readonly string[]; top?: number }) {
  const key = sparkKey(of);
  const subscribe = useMemo(() => (listener: () => void) => store.subscribe(key, listener), [store, key]);
  const values = useSyncExternalStore(subscribe, () => store.get(key));
  return (
    <svg className={classes.spark} width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden>
      {values === undefined ? null : <path d={sparkPath(values, width, height, top)} />}
    </svg>
  );
}
