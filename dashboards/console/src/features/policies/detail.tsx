import { Skeleton } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import type { Metric } from "@/api/types";
import { Page } from "@/parts/page";
import { useCatalogue } from "@/parts/queries";
import { Card, Command, Copy, Fact, Facts, Section } from "@/ui/Bits";
import { age } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { conditionWords, dict, list, str, subjectWords, targetWords, yaml } from "./model";
import classes from "./policies.module.css";
import { usePolicy } from "./queries";
import { policyState, policyWord, problems } from "./status";

const route = getRouteApi("/policies/$name");
const noMetrics: readonly Metric[] = [];

export function PolicyPage() {
  const { name } = route.useParams();
  const policy = usePolicy(name);
  const catalogue = useCatalogue();
  const now = useNow();
  const p = policy.data;
  const spec = dict(p?.spec);
  const gaps = p ? problems(p) : [];
  const text = p ? yaml({ apiVersion: p.apiVersion, kind: p.kind, metadata: { name: p.metadata.name, labels: p.metadata.labels }, spec: p.spec }) : "";
  return (
    <Page
      crumbs={[
        <Link key="p" to="/policies">
          Policies
        </Link>,
      ]}
      title={name}
      kind="policy"
      state={p ? policyState(p) : undefined}
      loading={!p && !policy.error}
      sentence={
        p
          ? `Tells ${targetWords(spec)} when the ${list(spec.conditions).map((c) => conditionWords(c, catalogue.data ?? noMetrics)).join(str(spec.combine) === "any" ? ", or the " : ", and the ")}, for ${subjectWords(spec)}.`
          : undefined
      }
    >
      {policy.error && !p ? (
        <Failure what="The policy" error={policy.error} onRetry={() => void policy.refetch()} />
      ) : !p ? (
        <Skeleton height={300} radius={8} />
      ) : (
        <>
          <Card>
            <Facts>
              <Fact label="State">
                <StateLabel state={policyState(p)}>{policyWord(p)}</StateLabel>
              </Fact>
              {Object.entries(dict(p.status))
                .filter(([, v]) => typeof v === "number" || typeof v === "string")
                .map(([k, v]) => (
                  <Fact key={k} label={words(k)}>
                    {/(At|_at)$/.test(k) ? `${age(str(v), now)} ago` : str(v)}
                  </Fact>
                ))}
              <Fact label="Revision">{p.metadata.revision}</Fact>
              <Fact label="Changed">{age(p.metadata.updatedAt, now)} ago</Fact>
              <Fact label="Written by">{p.metadata.managedBy || "unknown"}</Fact>
            </Facts>
          </Card>
          {gaps.length > 0 ? (
            <Section title="What it does not see">
              <Card>
                <ul className={classes.gaps}>
                  {gaps.map((g) => (
                    <li key={g}>{g}</li>
                  ))}
                </ul>
              </Card>
            </Section>
          ) : null}
          <Section title="As it is written" right={<Copy value={text} what="the policy" />}>
            <Card>
              <pre className={classes.yaml}>{text}</pre>
            </Card>
          </Section>
          <Section title="To change it">
            <Command>{`crowsnest policy apply -f ${name}.yaml`}</Command>
          </Section>
        </>
      )}
    </Page>
  );
}

const words = (key: string): string => {
  const spaced = key.replace(/_/g, " ").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
};
