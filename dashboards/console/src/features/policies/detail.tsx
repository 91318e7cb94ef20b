import { Button, Modal, Skeleton } from "@mantine/core";
import { IconCopy, IconPencil, IconPlayerPause, IconPlayerPlay, IconTrash } from "@tabler/icons-react";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { RequestError } from "@/api/problem";
import type { Alert, Metric, Policy } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { Page } from "@/parts/page";
import { useAlerts, useCatalogue } from "@/parts/queries";
import { ClusterLink, NodeLink, PodLink, WorkloadLink } from "@/parts/objects/links";
import { Card, Copy, Fact, Facts, Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, byUnit, count, duration, instant } from "@/ui/format";
import { Failure, Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { rank, StateLabel, stateOf } from "@/ui/state";
import { conditionsWords, dict, subjectWords, targetWords, yaml } from "./model";
import classes from "./policies.module.css";
import { Backtest } from "./Backtest";
import { History } from "./History";
import { Preview } from "./Preview";
import { useDeletePolicy, useEnablePolicy, usePolicy } from "./queries";
import { Why } from "./Why";
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
          {m.title}
        </Link>,
      ]}
      title={name}
      kind={m.detail.kind}
      state={p ? policyState(p) : undefined}
      loading={!p && !policy.error}
      sentence={
        p
          ? m.say.tells(targetWords(spec), conditionsWords(spec, catalogue.data ?? noMetrics), subjectWords(spec))
          : undefined
      }
      aside={p ? <Actions policy={p} /> : undefined}
    >
      {policy.error && !p ? (
        <Failure what={m.thePolicy} error={policy.error} onRetry={() => void policy.refetch()} />
      ) : !p ? (
        <Skeleton height={300} radius={8} />
      ) : (
        <>
          <Card>
            <Facts>
              <Fact label={m.detail.state}>
                <StateLabel state={policyState(p)}>{policyWord(p)}</StateLabel>
              </Fact>
              <Fact label={m.detail.selected}>{p.status ? count(p.status.selected) : m.detail.unknown}</Fact>
              {(p.status?.clusters ?? []).map((c) => (
                <Fact key={c.cluster} label={c.cluster}>
                  {c.reason ? <StateLabel state="stale">{c.reason}</StateLabel> : c.evaluatedAt ? m.detail.evaluated(age(c.evaluatedAt, now)) : m.detail.notEvaluated}
                </Fact>
              ))}
              <Fact label={m.detail.revision}>{p.metadata.revision}</Fact>
              <Fact label={m.detail.changed}>
                {m.detail.changedBy(age(p.metadata.updatedAt, now), p.metadata.updatedBy ?? "")}
              </Fact>
              <Fact label={m.detail.managedBy}>{p.metadata.managedBy || m.detail.unknown}</Fact>
            </Facts>
          </Card>
          {gaps.length > 0 ? (
            <Section title={m.detail.gaps}>
              <Card>
                <ul className={classes.gaps}>
                  {gaps.map((g) => (
                    <li key={g}>{g}</li>
                  ))}
                </ul>
              </Card>
            </Section>
          ) : null}
          {(p.spec.conditions ?? []).map((c, i) => {
            const metric = catalogue.data?.find((entry) => entry.name === c.metric);
            return metric ? (
              <Section key={i} title={m.detail.sees(metric.title)}>
                <Card>
                  <Preview spec={p.spec} condition={c} metric={metric} />
                </Card>
              </Section>
            ) : c.expr || c.query ? (
              <Section key={i} title={m.detail.seesExpr} right={<Copy value={c.expr || c.query || ""} what={m.detail.seesExpr} />}>
                <Card>
                  <pre className={classes.yaml} tabIndex={0}>{c.expr || c.query}</pre>
                </Card>
              </Section>
            ) : null;
          })}
          <Alerts name={name} />
          <Why policy={p} />
          <Backtest draft={{ name: p.metadata.name, labels: p.metadata.labels ?? {}, revision: p.metadata.revision, spec: p.spec }} ready />
          <History name={name} />
          <Section title={m.detail.written} right={<Copy value={text} what={m.thePolicy} />}>
            <Card>
              <pre className={classes.yaml} tabIndex={0}>{text}</pre>
            </Card>
          </Section>
        </>
      )}
    </Page>
  );
}

/** Change, copy, switch on and off, delete. What another tool manages is changed here on request only. */
function Actions({ policy: p }: { policy: Policy }) {
  const name = p.metadata.name;
  const enabled = p.spec.enabled !== false;
  const enable = useEnablePolicy();
  const remove = useDeletePolicy();
  const navigate = useNavigate();
  const [asking, setAsking] = useState(false);
  const owned = enable.error instanceof RequestError && enable.error.status === 409;
  return (
    <div className={classes.aside}>
      <Button size="xs" leftSection={<IconPencil size={14} />} renderRoot={(props) => <Link to="/policies/$name/edit" params={{ name }} {...props} />}>
        {m.detail.change}
      </Button>
      <Button size="xs" variant="default" leftSection={<IconCopy size={14} />} renderRoot={(props) => <Link to="/policies/$name/edit" params={{ name }} search={{ copy: "1" }} {...props} />}>
        {m.detail.copy}
      </Button>
      <Button
        size="xs"
        variant="default"
        loading={enable.isPending}
        leftSection={enabled ? <IconPlayerPause size={14} /> : <IconPlayerPlay size={14} />}
        onClick={() => enable.mutate({ policy: p, enabled: !enabled, force: owned })}
      >
        {enabled ? m.detail.disable : m.detail.enable}
        {owned ? m.detail.allTheSame : ""}
      </Button>
      <Button size="xs" variant="default" leftSection={<IconTrash size={14} />} onClick={() => setAsking(true)}>
        {m.detail.delete}
      </Button>
      {enable.error ? <StateLabel state="critical">{enable.error.message}</StateLabel> : null}
      <Modal opened={asking} onClose={() => setAsking(false)} title={m.detail.deleteTitle(name)} centered>
        <p>{m.detail.deleteText}</p>
        {remove.error ? <StateLabel state="critical">{remove.error.message}</StateLabel> : null}
        <div className={classes.actions} style={{ marginTop: 16 }}>
          <Button size="xs" color="red" loading={remove.isPending} onClick={() => remove.mutate(name, { onSuccess: () => void navigate({ to: "/policies" }) })}>
            {m.detail.deleteIt}
          </Button>
          <Button size="xs" variant="default" onClick={() => setAsking(false)}>
            {m.detail.keepIt}
          </Button>
        </div>
      </Modal>
    </div>
  );
}

function Alerts({ name }: { name: string }) {
  const alerts = useAlerts("all", name);
  const now = useNow();
  const [sort, setSort] = useState({ column: "state", descending: false });
  const columns: Column<Alert>[] = [
    { id: "state", header: m.detail.alert, width: "110px", phoneWidth: "92px", sort: (a) => (a.ended_at ? 9 : rank(stateOf(a.severity))), cell: (a) => <StateLabel state={a.ended_at ? "idle" : stateOf(a.severity)}>{a.ended_at ? m.wasSeverity(m.severity[a.severity] ?? a.severity) : m.severity[a.severity]}</StateLabel> },
    { id: "object", header: m.detail.object, width: "minmax(180px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: objectName, cell: (a) => <ObjectLink alert={a} /> },
    {
      id: "incident",
      header: m.detail.incident,
      width: "100px",
      phoneWidth: "70px",
      cell: (a) => (
        <Link to="/incidents/$id" params={{ id: a.incident }}>
          {m.detail.toIncident}
        </Link>
      ),
    },
    { id: "value", header: m.detail.value, numeric: true, wide: true, width: "100px", sort: (a) => a.conditions[0]?.value ?? null, cell: (a) => byUnit(a.conditions[0]?.value ?? null, a.conditions[0]?.unit ?? "") },
    { id: "since", header: m.detail.began, numeric: true, wide: true, width: "110px", sort: (a) => instant(a.started_at), cell: (a) => m.detail.ago(age(a.started_at, now)) },
    { id: "lasts", header: m.detail.lasts, numeric: true, width: "90px", phoneWidth: "64px", sort: (a) => (instant(a.ended_at) ?? now) - (instant(a.started_at) ?? now), cell: (a) => duration((instant(a.ended_at) ?? now) - (instant(a.started_at) ?? now)) },
  ];
  return (
    <Section title={m.detail.alerts} note={alerts.data ? count(alerts.data.length) : undefined}>
      <Loaded query={alerts} what={m.detail.theAlerts} skeleton={<TableSkeleton rows={3} />}>
        {(all) => <DataTable label={m.detail.alertsLabel} columns={columns} rows={all} rowKey={(a) => a.id} sort={sort} onSort={setSort} dim={(a) => a.ended_at !== null} empty={m.detail.noAlerts} />}
      </Loaded>
    </Section>
  );
}

const objectName = (a: Alert): string => {
  const o = a.object;
  const own: string = ({ cluster: o.cluster, node: o.node, workload: o.workload, pod: o.pod, container: m.detail.containerOf(o.container ?? "", o.pod ?? "") } as Record<string, string | undefined>)[o.level] ?? "";
  return [own === "" ? o.level : own, ...Object.values(a.dimensions)].join(" ");
};

function ObjectLink({ alert: a }: { alert: Alert }) {
  const { cluster, namespace = "", pod, workload, workload_type: type, node, level } = a.object;
  const words = objectName(a);
  if ((level === "pod" || level === "container") && pod) return <PodLink cluster={cluster} namespace={namespace} pod={pod}>{words}</PodLink>;
  if (level === "workload" && workload && type) return <WorkloadLink cluster={cluster} namespace={namespace} type={type} name={workload}>{words}</WorkloadLink>;
  if (level === "node" && node) return <NodeLink cluster={cluster} node={node}>{words}</NodeLink>;
  return <ClusterLink cluster={cluster}>{words}</ClusterLink>;
}
