import { Kbd, Modal } from "@mantine/core";
import { frame as m } from "@/i18n/frame";
import { closeDialog } from "@/parts/dialogs";
import classes from "./Palette.module.css";
import { jumps } from "./keys";

const names: Record<string, string> = {
  "/": m.pages.overview, "/clusters": m.pages.clusters, "/incidents": m.pages.incidents, "/logs": m.pages.logs, "/events": m.pages.events, "/explore": m.pages.explore, "/boards": m.pages.boards,
  "/policies": m.pages.policies, "/notifications": m.pages.notifications, "/settings": m.pages.settings,
};

/** What keys do. */
export default function Keys() {
  const rows: [readonly string[], string][] = [
    [["/", "Ctrl K"], m.keys.find],
    [["t"], m.keys.range],
    [["↑", "↓"], m.keys.rows],
    [["Enter"], m.keys.open],
    [["Esc"], m.keys.back],
    [["?"], m.keys.help],
    ...Object.entries(jumps).map(([key, to]): [readonly string[], string] => [[m.keys.sequence(key)], names[to] ?? to]),
  ];
  return (
    <Modal opened onClose={closeDialog} title={m.keys.title} size="md" transitionProps={{ duration: 0 }}>
      <table className={classes.keys}>
        <tbody>
          {rows.map(([keys, what]) => (
            <tr key={what}>
              <td>
                {keys.map((k) => (
                  <Kbd key={k} mr={4}>
                    {k}
                  </Kbd>
                ))}
              </td>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Modal>
  );
}
