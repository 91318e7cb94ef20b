import { Button, SegmentedControl, Skeleton, Switch, Textarea, TextInput } from "@mantine/core";
import { getRouteApi, Link, useBlocker, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { RequestError } from "@/api/problem";
import type { Metric, Policy } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { Page } from "@/parts/page";
import { useCatalogue, useClusters, usePolicies, useSought } from "@/parts/queries";
import { Card, Section } from "@/ui/Bits";
import { Failure } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import { Backtest } from "./Backtest";
import { Diff } from "./Diff";
import { TryNow } from "./TryNow";
import { type Draft, draftProblems, isLinesLevel, newDraft, newLinesDraft, suggestName, withSpec } from "./draft";
import { PolicyForm } from "./Form";
import { conditionsWords, dict, isDict, subjectWords, targetWords } from "./model";
import classes from "./policies.module.css";
import { usePolicy, useSavePolicy } from "./queries";
import { draftText, readText } from "./text";

const noFields: RequestError["fields"] = [];

const policiesCrumb = (
  <Link key="p" to="/policies">
    {m.title}
  </Link>
);

const newRoute = getRouteApi("/new/policy");

/** A new policy, started from what the URL says it shall be about. */
export function NewPolicyPage() {
  const search = newRoute.useSearch();
  const catalogue = useCatalogue();
  const clusters = useClusters();
  const isSought = useSought(search.metric === undefined ? [] : [search.metric]);
  const start = useMemo((): Draft | undefined => {
    const metrics = catalogue.data;
    if (isLinesLevel(search.level) && search.query !== undefined) {
      const ofWorkload = search.level === "log" && search.workload !== undefined ? [`${search.workload_type ?? "*"}/${search.workload}`] : [];
      const places = { ...(search.namespace === undefined ? {} : { namespaces: [search.namespace] }), ...(ofWorkload.length === 0 ? {} : { workloads: ofWorkload }) };
      return newLinesDraft(search.level, search.query, places, search.cluster === undefined ? [] : [search.cluster]);
    }
    const metric =
      metrics?.find((entry) => entry.name === search.metric) ?? metrics?.find((entry) => entry.level === search.level && entry.alert) ?? metrics?.find((entry) => entry.name === "k8s_pod_rate_cpu_core_used_limit") ?? metrics?.[0];
    if (!metric) return undefined;
    const workload = search.workload === undefined ? undefined : `${search.workload_type ?? "*"}/${search.workload}`;
    const name = metric.level === "pod" ? search.pod : metric.level === "node" ? search.node : undefined;
    return newDraft(
      metric,
      {
        ...(search.namespace !== undefined && metric.level !== "node" && metric.level !== "cluster" ? { namespaces: [search.namespace] } : {}),
        ...(workload !== undefined && ["workload", "pod", "container"].includes(metric.level) ? { workloads: [workload] } : {}),
        ...(name === undefined ? {} : { names: [name] }),
      },
      search.cluster === undefined ? [] : [search.cluster],
    );
  }, [catalogue.data, search]);
  return (
    <Page crumbs={[policiesCrumb]} title={m.edit.newTitle} sentence={m.edit.newSentence}>
      {catalogue.error ? (
        <Failure what={m.theCatalogue} error={catalogue.error} onRetry={() => void catalogue.refetch()} />
      ) : !start || !catalogue.data || !isSought || clusters.isLoading ? (
        <Skeleton height={420} radius={8} />
      ) : (
        <Editor start={start} catalogue={catalogue.data} />
      )}
    </Page>
  );
}

const editRoute = getRouteApi("/policies/$name/edit");

/** Changes a policy, or makes a copy of it under another name. */
export function EditPolicyPage() {
  const { name } = editRoute.useParams();
  const { copy } = editRoute.useSearch();
  const policy = usePolicy(name);
  const catalogue = useCatalogue();
  // What is edited is the policy as it was when the page opened; a later revision is a conflict on saving, never a jump.
  const [first, setFirst] = useState<Policy | undefined>();
  if (policy.data && !first) setFirst(policy.data);
  const p = first;
  useSought(p?.spec.conditions?.flatMap((c) => c.metric ?? []) ?? []);
  const start = useMemo((): Draft | undefined => {
    if (!p) return undefined;
    const draft = draftOf(p);
    return copy === "1" ? { ...draft, name: `${draft.name.slice(0, 58)}-copy`, revision: undefined } : draft;
  }, [p, copy]);
  return (
    <Page
      crumbs={[
        policiesCrumb,
        <Link key="n" to="/policies/$name" params={{ name }}>
          {name}
        </Link>,
      ]}
      title={copy === "1" ? m.edit.copyTitle(name) : m.edit.changeTitle(name)}
    >
      {policy.error && !p ? (
        <Failure what={m.thePolicy} error={policy.error} onRetry={() => void policy.refetch()} />
      ) : catalogue.error ? (
        <Failure what={m.theCatalogue} error={catalogue.error} onRetry={() => void catalogue.refetch()} />
      ) : !start || !catalogue.data ? (
        <Skeleton height={420} radius={8} />
      ) : (
        <Editor key={copy} start={start} saved={p} catalogue={catalogue.data} />
      )}
    </Page>
  );
}

const draftOf = (p: Policy): Draft => ({ name: p.metadata.name, labels: p.metadata.labels ?? {}, revision: p.metadata.revision, spec: p.spec });

function Editor({ start, saved, catalogue }: { start: Draft; saved?: Policy | undefined; catalogue: readonly Metric[] }) {
  const [draft, setDraft] = useState(start);
  const [view, setView] = useState<"form" | "yaml">("form");
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<string | undefined>();
  const [force, setForce] = useState(false);
  const policies = usePolicies();
  const save = useSavePolicy();
  const navigate = useNavigate();
  // The server's words on a draft come while it is written.
  const [warned, setWarned] = useState<RequestError["fields"]>(noFields);
  const isNew = draft.revision === undefined;
  const metric = catalogue.find((entry) => entry.name === draft.spec.conditions?.[0]?.metric);
  const taken = (policies.data ?? []).map((p) => p.metadata.name);
  const suggestion = suggestName(draft.spec, metric, taken);
  // A name that was not typed follows what the policy says.
  const whole: Draft = draft.name === "" ? { ...draft, name: suggestion } : draft;
  const problems = draftProblems(whole);
  const changed = JSON.stringify(draft) !== JSON.stringify(start);
  useBlocker({
    shouldBlockFn: () => changed && !save.isSuccess && !globalThis.confirm(m.edit.leave),
    enableBeforeUnload: () => changed && !save.isSuccess,
  });

  const show = (next: string) => {
    if (next === "yaml") {
      setText(draftText(whole));
      setProblem(undefined);
    }
    setView(next === "yaml" ? "yaml" : "form");
  };
  const write = (next: string) => {
    setText(next);
    const read = readText(next, whole);
    setProblem("problem" in read ? read.problem : undefined);
    if ("draft" in read) setDraft(read.draft);
  };
  const submit = (d: Draft, withForce: boolean) => {
    save.mutate({ draft: d, force: withForce }, { onSuccess: (p) => void navigate({ to: "/policies/$name", params: { name: p.metadata.name }, ignoreBlocker: true }) });
  };

  const error = save.error;
  const wrong = error instanceof RequestError && error.fields.length > 0 ? error.fields : warned;
  const conflict = error instanceof RequestError && error.status === 409 ? error : undefined;
  return (
    <>
      <Card>
        <div className={classes.editorHead}>
          <TextInput
            size="xs"
            label={m.edit.name}
            className={classes.name}
            value={draft.name}
            placeholder={suggestion}
            disabled={!isNew}
            error={isNew && taken.includes(whole.name) ? m.edit.taken : undefined}
            onChange={(e) => setDraft({ ...draft, name: e.currentTarget.value.toLowerCase() })}
          />
          <Switch size="xs" label={m.edit.enabled} checked={draft.spec.enabled !== false} onChange={(e) => setDraft(withSpec(draft, { enabled: e.currentTarget.checked }))} />
          <SegmentedControl
            size="xs"
            aria-label={m.edit.view}
            value={view}
            onChange={show}
            data={[
              { value: "form", label: m.edit.form },
              { value: "yaml", label: m.edit.text, disabled: false },
            ]}
          />
        </div>
        <p className={classes.spoken}>{spoken(whole, catalogue)}</p>
      </Card>
      {view === "form" ? (
        <PolicyForm draft={draft} catalogue={catalogue} onChange={setDraft} wrong={wrong} />
      ) : (
        <Textarea aria-label={m.edit.asYaml} autosize minRows={14} maxRows={40} value={text} onChange={(e) => write(e.currentTarget.value)} error={problem} spellCheck={false} classNames={{ input: classes.code }} />
      )}
      <TryNow draft={whole} ready={problems.length === 0 && problem === undefined} onWrong={setWarned} />
      <Backtest draft={whole} saved={saved && !isNew ? draftOf(saved) : undefined} ready={problems.length === 0 && problem === undefined && warned.length === 0} onChange={view === "form" ? setDraft : undefined} />
      {saved && !isNew && changed ? (
        <Section title={m.edit.changes}>
          <Card>
            <Diff before={draftText(draftOf(saved))} after={draftText(whole)} />
          </Card>
        </Section>
      ) : null}
      {conflict ? (
        <Conflict error={conflict} draft={whole} onForce={() => submit(whole, true)} onOverwrite={(revision) => submit({ ...whole, revision }, force)} onTake={(p) => setDraft(draftOf(p))} reset={save.reset} />
      ) : error ? (
        <div role="alert" className={classes.problems}>
          <StateLabel state="critical">{m.edit.refused}</StateLabel>
          <ul>
            {wrong.length > 0 ? wrong.map((w) => <li key={w.location + w.message}>{`${w.location.replace(/^body\./, "")}: ${w.message}`}</li>) : <li>{error.message}</li>}
          </ul>
        </div>
      ) : null}
      <div className={classes.actions}>
        <Button size="sm" loading={save.isPending} disabled={problems.length > 0 || problem !== undefined || (!isNew && !changed)} onClick={() => submit(whole, force)}>
          {isNew ? m.edit.create : m.edit.save}
        </Button>
        <Button size="sm" variant="default" renderRoot={(props) => (isNew ? <Link to="/policies" {...props} /> : <Link to="/policies/$name" params={{ name: draft.name }} {...props} />)}>
          {m.edit.cancel}
        </Button>
        {saved && !isNew && saved.metadata.managedBy !== "console" ? (
          <Switch size="xs" label={m.edit.takeOver(saved.metadata.managedBy ?? "")} checked={force} onChange={(e) => setForce(e.currentTarget.checked)} />
        ) : null}
        {problems.length > 0 ? <span className={classes.quiet}>{problems.join(" ")}</span> : null}
      </div>
    </>
  );
}

function spoken(draft: Draft, catalogue: readonly Metric[]): ReactNode {
  const spec = dict(draft.spec);
  return m.say.whole(conditionsWords(spec, catalogue), subjectWords(spec), targetWords(spec));
}

/** Someone else wrote meanwhile, or someone else owns it: what is there now, and the two ways on. */
function Conflict({
  error,
  draft,
  onForce,
  onOverwrite,
  onTake,
  reset,
}: {
  error: RequestError;
  draft: Draft;
  onForce: () => void;
  onOverwrite: (revision: number) => void;
  onTake: (p: Policy) => void;
  reset: () => void;
}) {
  const current = isDict(error.current) && isDict(error.current.spec) ? (error.current as unknown as Policy) : undefined;
  const revision = current?.metadata.revision;
  const moved = current !== undefined && revision !== undefined && revision !== draft.revision;
  return (
    <div role="alert">
      <Section title={moved && draft.revision !== undefined ? m.edit.conflictTitle : m.edit.conflictOther}>
        <Card>
          <p>{moved && draft.revision !== undefined ? m.edit.conflict(revision, current.metadata.updatedBy ?? "", draft.revision) : error.message}</p>
          {moved ? <Diff before={draftText(draftOf(current))} after={draftText(draft)} /> : null}
          <div className={classes.actions}>
            {moved && draft.revision !== undefined ? (
              <>
                <Button size="xs" onClick={() => onOverwrite(revision)}>
                  {m.edit.saveOver(revision)}
                </Button>
                <Button
                  size="xs"
                  variant="default"
                  onClick={() => {
                    reset();
                    onTake(current);
                  }}
                >
                  {m.edit.takeTheirs}
                </Button>
              </>
            ) : draft.revision !== undefined ? (
              <Button size="xs" onClick={onForce}>
                {m.edit.takeOverAndSave}
              </Button>
            ) : null}
          </div>
        </Card>
      </Section>
    </div>
  );
}
