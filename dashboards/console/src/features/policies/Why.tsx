import { Autocomplete, Button, NativeSelect, TextInput } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Policy } from "@/api/types";
import { examples } from "@/i18n/examples";
import { policies as m } from "@/i18n/policies";
import { whyDimensions, whyObject } from "@/parts/policies/model";
import type { WhyQuestion } from "@/parts/policies/queries";
import { WhyView } from "@/parts/policies/WhyView";
import { useAlerts, useClusters } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { Card, Section } from "@/ui/Bits";
import { useNow } from "@/ui/now";
import { parseTime, toRFC3339 } from "@/ui/time";
import classes from "./policies.module.css";
import { useTrial } from "./queries";

const route = getRouteApi("/policies/$name");

/** Asks of one object at one time. What is asked is in the URL, so that the answer can be sent to somebody. */
export function Why({ policy: p }: { policy: Policy }) {
  const search = route.useSearch();
  const set = useSetSearch<typeof search>();
  const clusters = useClusters();
  const alerts = useAlerts("all", p.metadata.name);
  const trial = useTrial({ name: p.metadata.name, labels: p.metadata.labels ?? {}, revision: p.metadata.revision, spec: p.spec });
  const now = useNow();
  const { level } = p.spec;
  const promql = level === "promql";
  const ids = (clusters.data ?? []).map((c) => c.id);
  const [cluster, setCluster] = useState(search.cluster);
  const [object, setObject] = useState(search.object ?? "");
  const [dimensions, setDimensions] = useState(search.dimensions ?? "");
  const [at, setAt] = useState(search.at ?? "");
  const chosen = cluster ?? ids[0] ?? "";
  // What it looks at now, and what it ever spoke of.
  const known = useMemo(() => {
    const tried = (trial.data?.status?.trial ?? []).filter((t) => t.cluster === chosen).flatMap((t) => t.objects);
    const all = [...(alerts.data ?? []).filter((a) => a.object.cluster === chosen), ...tried];
    return new Map(all.map((o) => [whyObject(o.object as Record<string, string>, promql), whyDimensions(o.dimensions)]));
  }, [trial.data, alerts.data, chosen, promql]);
  const seconds = at.trim() === "" ? now : parseTime(at.trim(), now);
  const question: WhyQuestion | undefined =
    search.cluster === undefined
      ? undefined
      : { policy: p.metadata.name, cluster: search.cluster, object: search.object ?? "", dimensions: search.dimensions ?? "", at: search.at ?? "" };
  return (
    <Section title={m.why.title}>
      <Card>
        <form
          className={classes.asking}
          onSubmit={(e) => {
            e.preventDefault();
            if (seconds === undefined) return;
            const asked = at.trim() === "" ? undefined : toRFC3339(Math.floor(seconds));
            set({ cluster: chosen, object: object === "" ? undefined : object, dimensions: dimensions === "" ? undefined : dimensions, at: asked });
          }}
        >
          {ids.length > 1 ? <NativeSelect size="xs" label={m.why.cluster} value={chosen} onChange={(e) => setCluster(e.currentTarget.value)} data={ids} /> : null}
          {level === "cluster" ? null : (
            <Autocomplete
              size="xs"
              className={classes.multi}
              label={m.why.object}
              placeholder={examples.object[level] ?? ""}
              data={[...known.keys()].sort()}
              limit={50}
              value={object}
              onChange={(v) => {
                setObject(v);
                const of = known.get(v);
                if (of !== undefined) setDimensions(of);
              }}
            />
          )}
          {dimensions !== "" || [...known.values()].some((d) => d !== "") ? <TextInput size="xs" label={m.why.dimensions} placeholder={examples.dimensions} value={dimensions} onChange={(e) => setDimensions(e.currentTarget.value)} /> : null}
          <TextInput size="xs" label={m.why.at} placeholder={m.why.atHint} value={at} onChange={(e) => setAt(e.currentTarget.value)} error={seconds === undefined ? m.why.badTime : undefined} />
          <Button size="xs" type="submit" disabled={seconds === undefined || chosen === "" || (object === "" && level !== "cluster")}>
            {m.why.explain}
          </Button>
        </form>
        {question ? <WhyView question={question} /> : null}
      </Card>
    </Section>
  );
}
