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
