import { Button, Menu, Modal, Textarea } from "@mantine/core";
import { IconBellOff, IconCheck, IconMessage, IconUserCheck } from "@tabler/icons-react";
import { useState } from "react";
import type { Incident } from "@/api/types";
import { type Action, silenceMatchers, useIncidentAction, useSilence } from "@/parts/incidents/actions";
import { duration } from "@/ui/format";
import { StateLabel } from "@/ui/state";
import classes from "./incidents.module.css";

const lengths = [3600, 4 * 3600, 86400, 7 * 86400];

const asks: Partial<Record<Action, { title: string; button: string; label: string; required: boolean; says: string }>> = {
  acknowledge: { title: "Acknowledge", button: "Acknowledge", label: "Comment (optional)", required: false, says: "Reminders and escalation stop until its severity rises, another alert joins, or 24 h have passed." },
  comment: { title: "Comment", button: "Comment", label: "Comment", required: true, says: "It stands in the timeline, for everyone who looks." },
  resolve: { title: "Resolve by hand", button: "Resolve", label: "Why (optional)", required: false, says: "Its alerts end, and those who were told are told so. What is still bad fires again." },
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
            Take the acknowledgement back
          </Button>
        ) : (
          <Button size="xs" leftSection={<IconUserCheck size={14} />} onClick={() => setAsking("acknowledge")}>
            Acknowledge
          </Button>
        )
      ) : null}
      <Button size="xs" variant="default" leftSection={<IconMessage size={14} />} onClick={() => setAsking("comment")}>
        Comment
      </Button>
      {open ? (
        <>
          <Menu shadow="md" position="bottom-end">
            <Menu.Target>
              <Button size="xs" variant="default" leftSection={<IconBellOff size={14} />} loading={silence.isPending}>
                Silence
              </Button>
            </Menu.Target>
            <Menu.Dropdown>
              <Menu.Label>{silenceMatchers(i).join(", ")}</Menu.Label>
              {lengths.map((seconds) => (
                <Menu.Item key={seconds} onClick={() => silence.mutate({ words: i.object.workload ?? i.object.node ?? i.object.pod ?? "incident", matchers: silenceMatchers(i), seconds, comment: i.title })}>
                  for {duration(seconds)}
                </Menu.Item>
              ))}
            </Menu.Dropdown>
          </Menu>
          <Button size="xs" variant="default" leftSection={<IconCheck size={14} />} onClick={() => setAsking("resolve")}>
            Resolve
          </Button>
        </>
      ) : null}
      {silence.data ? <StateLabel state="info">silenced; evaluation goes on</StateLabel> : null}
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
