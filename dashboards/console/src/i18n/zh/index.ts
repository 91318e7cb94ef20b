// The whole of Simplified Chinese, loaded only where it is read. It needs nothing that names a word.
import { zh as act } from "./act";
import { zh as asking } from "./asking";
import { zh as boards } from "./boards";
import { zh as charts } from "./charts";
import { zh as clusters } from "./clusters";
import { zh as explore } from "./explore";
import { zh as frame } from "./frame";
import { zh as help } from "./help";
import { zh as incidents } from "./incidents";
import { zh as logs } from "./logs";
import { zh as notifications } from "./notifications";
import { zh as objects } from "./objects";
import { zh as overview } from "./overview";
import { zh as policies } from "./policies";
import { zh as server } from "./server";
import { zh as logRules } from "./logRules";
import { zh as settings } from "./settings";
import { zh as ui } from "./ui";

export const zh = { act, asking, boards, charts, clusters, explore, frame, help, incidents, logs, notifications, objects, overview, policies, server, logRules, settings, ui };
