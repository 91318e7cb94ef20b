import { Button } from "@mantine/core";
import { IconPin } from "@tabler/icons-react";
import { boards as m } from "@/i18n/boards";
import type { BoardPanel } from "./model";
import { pin } from "./pinStore";

/** Puts what is beside it on a board. */
export const PinButton = ({ panel }: { panel: BoardPanel }) => (
  <Button size="xs" variant="default" leftSection={<IconPin size={14} aria-hidden />} onClick={() => pin(panel)}>
    {m.pin.button}
  </Button>
);

interface PinTableProps {
  readonly title: string;
  readonly of: NonNullable<BoardPanel["of"]>;
  readonly object: NonNullable<BoardPanel["object"]>;
  readonly filter: string;
  readonly sort: string | undefined;
}

/** Puts the table beside it on a board, narrowed and sorted as it is. */
export const PinTable = ({ title, of, object, filter, sort }: PinTableProps) => (
  <PinButton panel={{ title: title.slice(0, 120), kind: "table", of, object, ...(filter === "" ? {} : { filter }), ...(sort === undefined ? {} : { sort }) }} />
);
