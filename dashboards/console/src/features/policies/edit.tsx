import { Button, SegmentedControl, Skeleton, Switch, Textarea, TextInput } from "@mantine/core";
import { getRouteApi, Link, useBlocker, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { RequestError } from "@/api/problem";
import type { Metric, Policy } from "@/api/types";
import { Page } from "@/parts/page";
import { useCatalogue, useClusters, usePolicies } from "@/parts/queries";
import { Card, Section } from "@/ui/Bits";
import { Failure } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import { Diff } from "./Diff";
import { TryNow } from "./TryNow";
import { type Draft, draftProblems, newDraft, suggestName, withSpec } from "./draft";
import { PolicyForm } from "./Form";
import { conditionWords, dict, isDict, str, subjectWords, targetWords } from "./model";
import classes from "./policies.module.css";
import { usePolicy, useSavePolicy } from "./queries";
import { draftText, readText } from "./text";

const noFields: RequestError["fields"] = [];

const policiesCrumb = (
  <Link key="p" to="/policies">
    Policies
  </Link>
);

const newRoute = getRouteApi("/new/policy");

/** A new policy, started from what the URL says it shall be about. */
export function NewPolicyPage() {
  const search = newRoute.useSearch();
  const catalogue = useCatalogue();
  const clusters = useClusters();
  const start = useMemo((): Draft | undefined => {
    const metrics = catalogue.data;
    const metric =
      metrics?.find((m) => m.name === search.metric) ?? metrics?.find((m) => m.level === search.level && m.alert) ?? metrics?.find((m) => m.name === "k8s_pod_rate_cpu_core_used_limit") ?? metrics?.[0];
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
    <Page crumbs={[policiesCrumb]} title="New policy" sentence="Say when a value is bad, of what, and who is told. What it would see is drawn beside it.">
      {catalogue.error ? (
        <Failure what="The catalogue of metrics" error={catalogue.error} onRetry={() => void catalogue.refetch()} />
      ) : !start || !catalogue.data || clusters.isLoading ? (
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
      title={copy === "1" ? `Copy of ${name}` : `Change ${name}`}
    >
      {policy.error && !p ? (
        <Failure what="The policy" error={policy.error} onRetry={() => void policy.refetch()} />
      ) : catalogue.error ? (
        <Failure what="The catalogue of metrics" error={catalogue.error} onRetry={() => void catalogue.refetch()} />
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
  const isNew = draft.revision === undefined;
  const metric = catalogue.find((m) => m.name === draft.spec.conditions?.[0]?.metric);
  const taken = (policies.data ?? []).map((p) => p.metadata.name);
  const suggestion = suggestName(draft.spec, metric, taken);
  // A name that was not typed follows what the policy says.
  const whole: Draft = draft.name === "" ? { ...draft, name: suggestion } : draft;
  const problems = draftProblems(whole);
  const changed = JSON.stringify(draft) !== JSON.stringify(start);
  useBlocker({
    shouldBlockFn: () => changed && !save.isSuccess && !globalThis.confirm("Leave without saving this policy?"),
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
  // The server's words on a draft come while it is written.
  const [warned, setWarned] = useState<RequestError["fields"]>(noFields);
  const wrong = error instanceof RequestError && error.fields.length > 0 ? error.fields : warned;
  const conflict = error instanceof RequestError && error.status === 409 ? error : undefined;
  return (
    <>
      <Card>
        <div className={classes.editorHead}>
          <TextInput
            size="xs"
            label="Name"
            className={classes.name}
            value={draft.name}
            placeholder={suggestion}
            disabled={!isNew}
            error={isNew && taken.includes(whole.name) ? "There is a policy of this name." : undefined}
            onChange={(e) => setDraft({ ...draft, name: e.currentTarget.value.toLowerCase() })}
          />
          <Switch size="xs" label="enabled" checked={draft.spec.enabled !== false} onChange={(e) => setDraft(withSpec(draft, { enabled: e.currentTarget.checked }))} />
          <SegmentedControl
            size="xs"
            aria-label="how the policy is shown"
            value={view}
            onChange={show}
            data={[
              { value: "form", label: "Form" },
              { value: "yaml", label: "YAML", disabled: false },
            ]}
          />
        </div>
        <p className={classes.spoken}>{spoken(whole, catalogue)}</p>
      </Card>
      {view === "form" ? (
        <PolicyForm draft={draft} catalogue={catalogue} onChange={setDraft} wrong={wrong} />
      ) : (
        <Textarea aria-label="the policy as YAML" autosize minRows={14} maxRows={40} value={text} onChange={(e) => write(e.currentTarget.value)} error={problem} spellCheck={false} classNames={{ input: classes.code }} />
      )}
      <TryNow draft={whole} ready={problems.length === 0 && problem === undefined} onWrong={setWarned} />
      {saved && !isNew && changed ? (
        <Section title="What changes">
          <Card>
            <Diff before={draftText(draftOf(saved))} after={draftText(whole)} />
          </Card>
        </Section>
      ) : null}
      {conflict ? (
        <Conflict error={conflict} draft={whole} onForce={() => submit(whole, true)} onOverwrite={(revision) => submit({ ...whole, revision }, force)} onTake={(p) => setDraft(draftOf(p))} reset={save.reset} />
      ) : error ? (
        <div role="alert" className={classes.problems}>
          <StateLabel state="critical">The server did not take it.</StateLabel>
          <ul>
            {wrong.length > 0 ? wrong.map((w) => <li key={w.location + w.message}>{`${w.location.replace(/^body\./, "")}: ${w.message}`}</li>) : <li>{error.message}</li>}
          </ul>
        </div>
      ) : null}
      <div className={classes.actions}>
        <Button size="sm" loading={save.isPending} disabled={problems.length > 0 || problem !== undefined || (!isNew && !changed)} onClick={() => submit(whole, force)}>
          {isNew ? "Create the policy" : "Save"}
        </Button>
        <Button size="sm" variant="default" renderRoot={(props) => (isNew ? <Link to="/policies" {...props} /> : <Link to="/policies/$name" params={{ name: draft.name }} {...props} />)}>
          Cancel
        </Button>
        {saved && !isNew && saved.metadata.managedBy !== "console" ? (
          <Switch size="xs" label={`take it over from “${saved.metadata.managedBy ?? ""}”, which made it`} checked={force} onChange={(e) => setForce(e.currentTarget.checked)} />
        ) : null}
        {problems.length > 0 ? <span className={classes.quiet}>{problems.join(" ")}</span> : null}
      </div>
    </>
  );
}

function spoken(draft: Draft, catalogue: readonly Metric[]): ReactNode {
  const spec = dict(draft.spec);
  const conditions = (draft.spec.conditions ?? []).map((c) => conditionWords(c, catalogue)).join(str(spec.combine) === "any" ? ", or the " : ", and the ");
  return `When the ${conditions}, for ${subjectWords(spec)}, tell ${targetWords(spec)}.`;
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
      <Section title={moved && draft.revision !== undefined ? "It was changed meanwhile" : "It could not be saved"}>
        <Card>
          <p>{moved && draft.revision !== undefined ? `Revision ${revision} was written${current.metadata.updatedBy ? ` by ${current.metadata.updatedBy}` : ""} while you changed revision ${draft.revision}. Nothing was overwritten. Below is what yours would change in it.` : error.message}</p>
          {moved ? <Diff before={draftText(draftOf(current))} after={draftText(draft)} /> : null}
          <div className={classes.actions}>
            {moved && draft.revision !== undefined ? (
              <>
                <Button size="xs" onClick={() => onOverwrite(revision)}>
                  Save mine over revision {revision}
                </Button>
                <Button
                  size="xs"
                  variant="default"
                  onClick={() => {
                    reset();
                    onTake(current);
                  }}
                >
                  Take theirs and start again
                </Button>
              </>
            ) : draft.revision !== undefined ? (
              <Button size="xs" onClick={onForce}>
                Take it over and save
              </Button>
            ) : null}
          </div>
        </Card>
      </Section>
    </div>
  );
}
