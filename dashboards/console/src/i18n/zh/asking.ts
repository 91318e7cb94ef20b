import type { asking } from "../asking";

export const zh: typeof asking = {
  answered: (status) => `服务器返回 ${status}。`,
  unreachable: "无法连接服务器。",
};
