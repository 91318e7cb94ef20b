import { digits } from "../language";
import type { ui } from "../ui";

export const zh: typeof ui = {
  yes: "是",
  no: "否",
  close: "关闭",
  units: { cores: "核", bytes: "字节", bytesPerSecond: "字节/秒" },
  seconds: (n) => `${n} 秒`,
  minutes: (n) => `${n} 分钟`,
  hours: (n) => `${n} 小时`,
  days: (n) => `${digits(n)} 天`,
  states: { critical: "严重", warning: "警告", stale: "数据过期", waiting: "等待数据", info: "提示", ok: "正常", idle: "未评估" },
  ranges: {
    minutes: (n) => `最近 ${n} 分钟`,
    hours: (n) => `最近 ${n} 小时`,
    days: (n) => `最近 ${n} 天`,
  },
  notLoaded: (what) => `无法加载${what}`,
  tryAgain: "重试",
  loading: "加载中",
  nothing: "这里没有内容。",
  copied: "已复制",
  copy: (what) => `复制${what}`,
  theCommand: "命令",
  unknown: "未知",
  none: "无",
  bar: (name, used, requested, allocatable) => `${name}：已用 ${used}，请求 ${requested}，可分配 ${allocatable}`,
  barRequested: (share) => ` · 请求 ${share}`,
  barOf: (allocatable) => ` / ${allocatable}`,
  part: (n, name) => `${name} ${n}`,
};
