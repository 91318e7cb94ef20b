import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { Board, BoardPanel, BoardSpec } from "./model";
import { nameOf } from "./model";

export const useBoards = () =>
  useQuery({
    queryKey: keys.boards(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/boards", { signal }))),
  });

const readBoard = (name: string, signal?: AbortSignal) => body(client.GET("/apis/crowsnest.dev/v1/boards/{name}", { params: { path: { name } }, ...(signal ? { signal } : {}) }));

export const useBoard = (name: string) => useQuery({ queryKey: keys.board(name), queryFn: ({ signal }) => readBoard(name, signal) });

const create = (board: Board) => body(client.POST("/apis/crowsnest.dev/v1/boards", { body: board }));
const replace = (board: Board) => body(client.PUT("/apis/crowsnest.dev/v1/boards/{name}", { params: { path: { name: board.metadata.name } }, body: board }));

function useWritten() {
  const queries = useQueryClient();
  return async (board: Board) => {
    queries.setQueryData(keys.board(board.metadata.name), board);
    await queries.invalidateQueries({ queryKey: keys.boards() });
  };
}

const blank = (name: string, spec: BoardSpec): Board => ({ apiVersion: "crowsnest.dev/v1", kind: "Board", metadata: { name }, spec });

/** Makes a board of that title, or the board itself when one is given, which comes from a file. */
export function useCreateBoard() {
  const written = useWritten();
  return useMutation({ mutationFn: create, onSuccess: written });
}

export function useSaveBoard() {
  const written = useWritten();
  return useMutation({ mutationFn: replace, onSuccess: written });
}

/** Adds a panel to a board as it is on the server at this moment, or makes a new board with it. */
export function usePin() {
  const written = useWritten();
  return useMutation({
    mutationFn: async ({ to, panel, taken }: { to: { readonly name: string } | { readonly title: string }; panel: BoardPanel; taken: readonly string[] }) => {
      if ("title" in to) return create(blank(nameOf(to.title, taken), { title: to.title, panels: [panel] }));
      const now = await readBoard(to.name);
      return replace({ ...now, spec: { ...now.spec, panels: [...now.spec.panels, panel] } });
    },
    onSuccess: written,
  });
}

export function useDeleteBoard() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/boards/{name}", { params: { path: { name } } }),
    // The page that shows it is left by the caller: asking for the board once more would answer that it is gone.
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.boards() }),
  });
}
