import { Button, Modal, Select, Textarea, TextInput } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { boards as m } from "@/i18n/boards";
import { StateLabel } from "@/ui/state";
import classes from "./boards.module.css";
import { type BoardPanel, lastChanged } from "./model";
import { closePin } from "./pinStore";
import { useBoards, usePin } from "./queries";

const another = "+";

/** Asks where a panel goes and what it is called there. */
export default function PinDialog({ panel }: { panel: BoardPanel }) {
  const boards = useBoards();
  const pin = usePin();
  const [title, setTitle] = useState(panel.title);
  const [query, setQuery] = useState(panel.query ?? "");
  const [chosen, setChosen] = useState<string | undefined>();
  const [boardTitle, setBoardTitle] = useState("");
  const known = boards.data ?? [];
  // Until the boards are known, none is offered: a field for a new one would go away under whoever types.
  const waits = boards.data === undefined && !boards.error;
  const to = chosen ?? lastChanged(known)?.metadata.name ?? (waits ? null : another);
  const submit = (e: SyntheticEvent) => {
    e.preventDefault();
    pin.mutate({
      to: to === null || to === another ? { title: boardTitle.trim() } : { name: to },
      taken: known.map((b) => b.metadata.name),
      panel: { ...panel, title: title.trim(), ...(panel.query === undefined ? {} : { query: query.trim() }) },
    });
  };
  return (
    <Modal opened onClose={closePin} title={m.pin.title} size={460} transitionProps={{ duration: 0 }} closeButtonProps={{ "aria-label": m.pin.close }}>
      {pin.data ? (
        <div className={classes.form}>
          <StateLabel state="ok">{m.pin.done(pin.data.spec.title)}</StateLabel>
          <div className={classes.formEnd}>
            <Button size="xs" variant="default" onClick={closePin}>
              {m.pin.leave}
            </Button>
            <Button size="xs" onClick={closePin} renderRoot={(props) => <Link to="/boards/$name" params={{ name: pin.data.metadata.name }} {...props} />}>
              {m.pin.open}
            </Button>
          </div>
        </div>
      ) : (
        <form onSubmit={submit} className={classes.form}>
          <TextInput data-autofocus label={m.pin.panelTitle} required maxLength={120} value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
          {panel.query === undefined ? null : (
            <Textarea label={panel.kind === "logs" ? "LogsQL" : "PromQL"} required autosize minRows={1} maxRows={6} spellCheck={false} value={query} onChange={(e) => setQuery(e.currentTarget.value)} classNames={{ input: classes.code }} />
          )}
          <Select
            label={m.pin.board}
            allowDeselect={false}
            disabled={waits}
            value={to}
            onChange={(v) => setChosen(v ?? undefined)}
            data={[...known.map((b) => ({ value: b.metadata.name, label: b.spec.title })), { value: another, label: m.pin.another }]}
          />
          {to === another ? <TextInput label={m.pin.anotherTitle} required maxLength={120} value={boardTitle} onChange={(e) => setBoardTitle(e.currentTarget.value)} /> : null}
          {pin.error ? <StateLabel state="critical">{pin.error.message}</StateLabel> : null}
          <div className={classes.formEnd}>
            <Button size="xs" variant="default" onClick={closePin}>
              {m.cancel}
            </Button>
            <Button size="xs" type="submit" loading={pin.isPending} disabled={waits}>
              {m.pin.button}
            </Button>
          </div>
        </form>
      )}
    </Modal>
  );
}
