import { Button, Modal, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { Fragment, type ReactNode, type SyntheticEvent, useState } from "react";
import { RequestError } from "@/api/problem";
import { notifications as m } from "@/i18n/notifications";
import { type Column, DataTable } from "@/ui/DataTable";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./notifications.module.css";
import { type Store, type Stored, useDeleted, useStored } from "./queries";

export interface TableProps {
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
}

interface KeptWords {
  readonly what: string;
  readonly label: string;
  readonly new: string;
  readonly none: string;
  readonly about?: string;
  readonly noneText?: string;
  /** Asked before one is deleted; without it nothing is asked. */
  readonly confirm?: (name: string) => string;
}

interface KeptProps<T extends Stored> extends TableProps {
  readonly words: KeptWords;
  readonly query: { readonly data: T[] | undefined; readonly error: Error | null; readonly refetch: () => unknown };
  readonly store: Store<T>;
  readonly columns: readonly Column<T>[];
  readonly first: { readonly column: string; readonly descending: boolean };
  readonly dim?: (object: T) => boolean;
  readonly size?: string;
  /** What ends one of them, when not "Delete". */
  readonly end?: { readonly word: string; readonly label: (name: string) => string };
  /** Further buttons of a row. */
  readonly act?: (object: T) => ReactNode;
  /** What was done with a row, beside the button that makes one. */
  readonly said?: ReactNode;
  readonly form: (existing: T | undefined, onDone: () => void) => ReactNode;
}

/** What is kept of one kind: a table of it, and a dialog that makes one or changes it. */
export function Kept<T extends Stored>({ words, query, store, columns, first, dim, size = "lg", end, act, said, form, sort, onSort }: KeptProps<T>) {
  const remove = useDeleted(store);
  // true: a new one.
  const [open, setOpen] = useState<T | true | undefined>();
  const close = () => setOpen(undefined);
  const all: Column<T>[] = [
    ...columns,
    {
      id: "act",
      header: "",
      width: act ? "196px" : "136px",
      phoneWidth: act ? "170px" : "124px",
      cell: (x) => (
        <span className={classes.inline}>
          {act?.(x)}
          <Button size="compact-xs" variant="default" aria-label={m.editLabel(x.metadata.name)} onClick={() => setOpen(x)}>
            {m.edit}
          </Button>
          <Button
            size="compact-xs"
            variant="default"
            aria-label={(end?.label ?? m.deleteLabel)(x.metadata.name)}
            onClick={() => {
              if (words.confirm === undefined || globalThis.confirm(words.confirm(x.metadata.name))) remove.mutate(x.metadata.name);
            }}
          >
            {end?.word ?? m.delete}
          </Button>
        </span>
      ),
    },
  ];
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} aria-hidden />} onClick={() => setOpen(true)}>
          {words.new}
        </Button>
        {words.about === undefined ? null : <span className={classes.quiet}>{words.about}</span>}
        {said}
        {remove.error ? <StateLabel state="critical">{remove.error.message}</StateLabel> : null}
      </div>
      <Loaded query={query} what={words.what} skeleton={<TableSkeleton rows={4} />}>
        {(list) =>
          list.length === 0 && words.noneText !== undefined ? (
            <Empty title={words.none}>{words.noneText}</Empty>
          ) : (
            <DataTable label={words.label} columns={all} rows={list} rowKey={(x) => x.metadata.name} sort={parseSort(sort, first)} onSort={(s) => onSort(sortText(s))} {...(dim ? { dim } : {})} empty={words.none} />
          )
        }
      </Loaded>
      <Modal opened={open !== undefined} onClose={close} title={open === undefined || open === true ? words.new : m.editLabel(open.metadata.name)} size={size} centered closeButtonProps={{ "aria-label": m.close }}>
        {open === undefined ? null : form(open === true ? undefined : open, close)}
      </Modal>
    </div>
  );
}

export const nameRule = /^[a-z0-9-]{1,63}$/;

interface FormProps<T extends Stored> {
  readonly store: Store<T>;
  /** What is changed, or what a new one begins with. */
  readonly start: T;
  readonly ready: (object: T) => boolean;
  /** What the button says for a new one. */
  readonly word: string;
  /** Nobody needs to name it: it has a name already. */
  readonly named?: boolean;
  readonly onDone: (saved: T) => void;
  readonly children: (object: T, change: (spec: T["spec"]) => void) => ReactNode;
}

/** The form of one object. What somebody else wrote meanwhile is told, and never overwritten without being asked. */
export function ObjectForm<T extends Stored>({ store, start, ready, word, named = true, onDone, children }: FormProps<T>) {
  const [object, setObject] = useState(start);
  const save = useStored(store);
  const isNew = object.metadata.revision === undefined;
  const { name } = object.metadata;
  const submit = (o: T, force: boolean) => save.mutate({ object: o, force }, { onSuccess: onDone });
  const change = (spec: T["spec"]) => setObject({ ...object, spec });
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        submit(object, false);
      }}
    >
      {named ? (
        <TextInput
          label={m.name}
          {...(isNew ? { "data-autofocus": true } : {})}
          disabled={!isNew}
          value={name}
          onChange={(e) => setObject({ ...object, metadata: { ...object.metadata, name: e.currentTarget.value } })}
          error={name === "" || nameRule.test(name) ? undefined : m.nameRule}
        />
      ) : null}
      {/* Fields keep what is typed into them: of another revision they begin anew. */}
      <Fragment key={object.metadata.revision ?? 0}>{children(object, change)}</Fragment>
      {save.error ? (
        <Refused
          error={save.error}
          mine={object}
          onForce={(revision) => submit({ ...object, metadata: { ...object.metadata, revision } }, true)}
          onTake={(theirs: T) => {
            save.reset();
            setObject(theirs);
          }}
        />
      ) : null}
      <div>
        <Button size="xs" type="submit" disabled={!nameRule.test(name) || !ready(object)} loading={save.isPending}>
          {isNew ? word : m.save}
        </Button>
      </div>
    </form>
  );
}

/** Why it could not be saved; of what another one wrote or owns, the ways on. */
function Refused<T extends Stored>({ error, mine, onForce, onTake }: { error: Error; mine: T; onForce: (revision: number) => void; onTake: (theirs: T) => void }) {
  const theirs = error instanceof RequestError && error.status === 409 ? (error.current as T | undefined) : undefined;
  const revision = theirs?.metadata.revision;
  // A new one that is there already cannot be written over from here: it was not looked at.
  if (theirs === undefined || revision === undefined || mine.metadata.revision === undefined) return <StateLabel state="critical">{error.message}</StateLabel>;
  const moved = revision !== mine.metadata.revision;
  return (
    <div role="alert" className={classes.conflict}>
      <p>{moved ? m.conflict.moved(revision, theirs.metadata.updatedBy ?? "") : error.message}</p>
      <div className={classes.row}>
        <Button size="xs" variant="default" onClick={() => onForce(revision)}>
          {moved ? m.conflict.over(revision) : m.conflict.takeOver}
        </Button>
        {moved ? (
          <Button size="xs" variant="default" onClick={() => onTake(theirs)}>
            {m.conflict.take}
          </Button>
        ) : null}
      </div>
    </div>
  );
}
