import { Button, Menu, Modal, Textarea } from "@mantine/core";
import { IconBellOff, IconCheck, IconMessage, IconUser, IconUserCheck } from "@tabler/icons-react";
import { useState } from "react";
import type { Incident } from "@/api/types";
import { incidents as m } from "@/i18n/incidents";
import { type Action, silenceMatchers, useIncidentAction, useSilence } from "@/parts/incidents/actions";
import { duration } from "@/ui/format";
import { StateLabel } from "@/ui/state";
import classes from "./incidents.module.css";

const lengths = [3600, 4 * 3600, 86400, 7 * 86400];

const asks: Partial<Record<Action, { title: string; button: string; label: string; required: boolean; says: string }>> = {
  acknowledge: { title: m.act.acknowledge, button: m.act.acknowledge, label: m.act.optionalComment, required: false, says: m.act.acknowledgeText },
  comment: { title: m.act.comment, button: m.act.comment, label: m.act.comment, required: true, says: m.act.commentText },
  resolve: { title: m.act.resolveTitle, button: m.act.resolve, label: m.act.why, required: false, says: m.act.resolveText },
  assign: { title: m.act.assign, button: m.act.assign, label: m.act.assignee, required: false, says: m.act.assignText },
};

/** What can be done with an incident. */
export function Actions({ incident: i }: { incident: Incident }) {
  const act = useIncidentAction();
  const silence = useSilence();
  const [asking, setAsking] = useState<Action | undefined>();
  const [text, setText] = useState("");
  const ask = asking === undefined ? undefined : asks[asking];
  const open = i.ended_at === null;
  const acknowledged = i.acknowledged_by !== null;
  const close = () => {
    setAsking(undefined);
    setText("");
    act.reset();
  };
  const error = silence.error ?? (ask ? null : act.error);
  return (
    <div className={classes.actions}>
      {open ? (
        acknowledged ? (
          <Button size="xs" variant="default" leftSection={<IconUserCheck size={14} />} loading={act.isPending && asking === undefined} onClick={() => act.mutate({ id: i.id, action: "unacknowledge", text: "" })}>
            {m.act.takeBack}
          </Button>
        ) : (
          <Button size="xs" leftSection={<IconUserCheck size={14} />} onClick={() => setAsking("acknowledge")}>
            {m.act.acknowledge}
          </Button>
        )
      ) : null}
      <Button size="xs" variant="default" leftSection={<IconMessage size={14} />} onClick={() => setAsking("comment")}>
        {m.act.comment}
      </Button>
      <Button size="xs" variant="default" leftSection={<IconUser size={14} />} onClick={() => { setText(i.assignee ?? ""); setAsking("assign"); }}>
        {m.act.assign}
      </Button>
      {open ? (
        <>
          <Menu shadow="md" position="bottom-end">
            <Menu.Target>
              <Button size="xs" variant="default" leftSection={<IconBellOff size={14} />} loading={silence.isPending}>
                {m.act.silence}
              </Button>
            </Menu.Target>
            <Menu.Dropdown>
              <Menu.Label>{silenceMatchers(i).join(", ")}</Menu.Label>
              {lengths.map((seconds) => (
                <Menu.Item key={seconds} onClick={() => silence.mutate({ words: i.object.workload ?? i.object.node ?? i.object.pod ?? "incident", matchers: silenceMatchers(i), seconds, comment: i.title })}>
                  {m.act.for(duration(seconds))}
                </Menu.Item>
              ))}
            </Menu.Dropdown>
          </Menu>
          <Button size="xs" variant="default" leftSection={<IconCheck size={14} />} onClick={() => setAsking("resolve")}>
            {m.act.resolve}
          </Button>
        </>
      ) : null}
      {silence.data ? <StateLabel state="info">{m.act.silenced}</StateLabel> : null}
      {error ? <StateLabel state="critical">{error.message}</StateLabel> : null}
      <Modal opened={ask !== undefined} onClose={close} title={ask?.title} centered>
        {ask && asking ? (
          <form
            className={classes.ask}
            onSubmit={(e) => {
              e.preventDefault();
              act.mutate({ id: i.id, action: asking, text: text.trim() }, { onSuccess: close });
            }}
          >
            <p className={classes.quiet}>{ask.says}</p>
            <Textarea label={ask.label} data-autofocus autosize minRows={2} maxLength={4096} value={text} onChange={(e) => setText(e.currentTarget.value)} />
            {act.error ? <StateLabel state="critical">{act.error.message}</StateLabel> : null}
            <div>
              <Button size="xs" type="submit" loading={act.isPending} disabled={ask.required && text.trim() === ""}>
                {ask.button}
              </Button>
            </div>
          </form>
        ) : null}
      </Modal>
    </div>
  );
}
