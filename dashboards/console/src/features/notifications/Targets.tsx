import { Button } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { notifications as m } from "@/i18n/notifications";
import { useTargets } from "@/parts/queries";
import { Command, Named } from "@/ui/Bits";
import type { Column } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { type State, StateLabel } from "@/ui/state";
import { Kept, ObjectForm, type TableProps } from "./Kept";
import classes from "./notifications.module.css";
import { type Target, targetStore, useRotate, useTestTarget } from "./queries";
import { TargetFields } from "./TargetFields";
import { address, missing } from "./target";

export function targetState(t: Target): State {
  if (t.status?.circuit === "open") return "critical";
  return t.status?.lastError ? "warning" : "ok";
}

const columns: Column<Target>[] = [
  { id: "state", header: m.state, width: "120px", phoneWidth: "86px", sort: targetState, cell: (t) => <StateLabel state={targetState(t)}>{m.targets.states[targetState(t)]}</StateLabel> },
  { id: "name", header: m.targets.target, width: "minmax(120px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (t) => t.metadata.name, cell: (t) => <Named why={t.status?.lastError}>{t.metadata.name}</Named> },
  { id: "type", header: m.targets.channel, wide: true, width: "110px", sort: (t) => t.spec.type, cell: (t) => m.targets.channels[t.spec.type] ?? t.spec.type },
  { id: "url", header: m.targets.address, wide: true, width: "minmax(120px, 1.5fr)", cell: (t) => <span title={address(t.spec)}>{address(t.spec)}</span> },
  { id: "pending", header: m.targets.waiting, numeric: true, wide: true, width: "70px", sort: (t) => t.status?.pending, cell: (t) => count(t.status?.pending) },
  { id: "dead", header: m.targets.givenUp, numeric: true, wide: true, width: "74px", sort: (t) => t.status?.dead, cell: (t) => count(t.status?.dead) },
  { id: "error", header: m.targets.lastError, wide: true, width: "minmax(80px, 1.5fr)", cell: (t) => <span title={t.status?.lastError}>{t.status?.lastError}</span> },
];

export function Targets(table: TableProps) {
  const test = useTestTarget();
  return (
    <Kept
      {...table}
      words={m.targets}
      query={useTargets()}
      store={targetStore}
      columns={columns}
      first={{ column: "name", descending: false }}
      act={(t) => (
        <Button size="compact-xs" variant="default" loading={test.isPending && test.variables === t.metadata.name} onClick={() => test.mutate(t.metadata.name)}>
          {m.targets.test}
        </Button>
      )}
      said={test.data ? <StateLabel state="info">{m.targets.tested(test.data.target)}</StateLabel> : test.error ? <StateLabel state="critical">{test.error.message}</StateLabel> : null}
      form={(existing, onDone) => <TargetForm existing={existing} onDone={onDone} />}
    />
  );
}

function TargetForm({ existing, onDone }: { existing: Target | undefined; onDone: () => void }) {
  const [made, setMade] = useState<Target | undefined>();
  const rotate = useRotate();
  const test = useTestTarget();
  const known = useTargets();
  const secret = made?.status?.secret ?? rotate.data?.status?.secret;
  if (made) {
    return (
      <div className={classes.stack}>
        <StateLabel state="ok">{m.targets.made(made.metadata.name)}</StateLabel>
        {made.spec.type === "webhook" && secret ? <SigningKey secret={secret} /> : null}
        {test.data ? <StateLabel state="info">{m.targets.tested(made.metadata.name)}</StateLabel> : null}
        {test.error ? <StateLabel state="critical">{test.error.message}</StateLabel> : null}
        <div className={classes.row}>
          <Button size="xs" onClick={onDone}>
            {m.close}
          </Button>
          <Button size="xs" variant="default" loading={test.isPending} onClick={() => test.mutate(made.metadata.name)}>
            {m.targets.testIt}
          </Button>
        </div>
      </div>
    );
  }
  const others = (known.data ?? []).map((t) => t.metadata.name).filter((n) => n !== existing?.metadata.name);
  let rotation: ReactNode = null;
  if (existing?.spec.type === "webhook") {
    rotation = secret ? (
      <SigningKey secret={secret} />
    ) : (
      <div className={classes.row}>
        <Button size="xs" variant="default" loading={rotate.isPending} onClick={() => globalThis.confirm(m.targets.rotateConfirm) && rotate.mutate(existing.metadata.name)}>
          {m.targets.rotate}
        </Button>
        <span className={classes.quiet}>{rotate.error ? rotate.error.message : m.targets.rotateText}</span>
      </div>
    );
  }
  return (
    <>
      <ObjectForm
        // A new key is a new revision, of which this form knows.
        key={rotate.data?.metadata.revision}
        store={targetStore}
        start={rotate.data ?? existing ?? targetStore.blank("", { type: "webhook" })}
        ready={(t) => missing(t.spec).length === 0}
        word={m.make}
        onDone={(saved) => (existing ? onDone() : setMade(saved))}
      >
        {(t, change) => <TargetFields spec={t.spec} others={others} isNew={existing === undefined} onChange={change} />}
      </ObjectForm>
      {rotation === null ? null : <div className={classes.rotation}>{rotation}</div>}
    </>
  );
}

const SigningKey = ({ secret }: { secret: string }) => (
  <div>
    <p>{m.targets.secret}</p>
    <Command>{secret}</Command>
  </div>
);
