package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Code names a sentence in which something is refused. A code never changes and
// never means anything else: whoever shows the sentence in another language goes
// by it.
type Code string

// The sentences by what they are about. All stand here, since whoever translates
// them, and the API's description, need them whole.
const (

	// Values of any kind.

	Required           Code = "required"
	RequiredFor        Code = "required_for"
	RequiredOf         Code = "required_of"
	OneNeeded          Code = "one_needed"
	OneNeededOf        Code = "one_needed_of"
	MustBe             Code = "must_be"
	OneOf              Code = "one_of"
	OneOfNear          Code = "one_of_near"
	AtLeast            Code = "at_least"
	AtMost             Code = "at_most"
	Between            Code = "between"
	AboveAtMost        Code = "above_at_most"
	NotNegative        Code = "not_negative"
	NotNegativeNorOver Code = "not_negative_nor_over"
	CountAtMost        Code = "count_at_most"
	EntriesBetween     Code = "entries_between"
	EntriesAtMost      Code = "entries_at_most"
	CharactersAtLeast  Code = "characters_at_least"
	CharactersAtMost   Code = "characters_at_most"
	CharactersBetween  Code = "characters_between"
	BytesAtMost        Code = "bytes_at_most"
	BytesBetween       Code = "bytes_between"
	OneLine            Code = "one_line"
	OneLineAtMost      Code = "one_line_at_most"
	NotNull            Code = "not_null"
	NotList            Code = "not_list"
	NotMap             Code = "not_map"
	NotObject          Code = "not_object"
	NotObjectBut       Code = "not_object_but"
	NotText            Code = "not_text"
	NotBool            Code = "not_bool"
	NotWhole           Code = "not_whole"
	NotNumber          Code = "not_number"
	NotTime            Code = "not_time"
	NotDuration        Code = "not_duration"
	Matching           Code = "matching"
	KeyUnknown         Code = "key_unknown"
	KeyNone            Code = "key_none"
	KeyNear            Code = "key_near"
	KeyOf              Code = "key_of"

	// Names and words of any object.

	Name              Code = "name"
	NameFixed         Code = "name_fixed"
	ProjectDefault    Code = "project_default"
	LabelName         Code = "label_name"
	AnnotationName    Code = "annotation_name"
	Glob              Code = "glob"
	GlobsEmpty        Code = "globs_empty"
	WorkloadGlob      Code = "workload_glob"
	Selector          Code = "selector"
	Matcher           Code = "matcher"
	MatcherNeeded     Code = "matcher_needed"
	MatchersAll       Code = "matchers_all"
	Zone              Code = "zone"
	Template          Code = "template"
	TargetUnknown     Code = "target_unknown"
	TargetUnknownNear Code = "target_unknown_near"
	TargetNameless    Code = "target_nameless"
	TargetTwice       Code = "target_twice"
	TargetsNone       Code = "targets_none"
	TargetOther       Code = "target_other"

	// Policies.

	ObjectsUncounted       Code = "objects_uncounted"
	ObjectsUnlabelled      Code = "objects_unlabelled"
	ClusterNoPart          Code = "cluster_no_part"
	ClusterSelect          Code = "cluster_select"
	NodeNoPart             Code = "node_no_part"
	ComponentNoPart        Code = "component_no_part"
	LevelNoWorkload        Code = "level_no_workload"
	DimensionsDiffer       Code = "dimensions_differ"
	ForLines               Code = "for_lines"
	ForPromQL              Code = "for_promql"
	SeverityWithOp         Code = "severity_with_op"
	NotWithQuery           Code = "not_with_query"
	QueryNeeded            Code = "query_needed"
	QueryFilter            Code = "query_filter"
	GroupByOther           Code = "group_by_other"
	CountNever             Code = "count_never"
	NoDataOfLines          Code = "no_data_of_lines"
	NotWithExpr            Code = "not_with_expr"
	ExprNeeded             Code = "expr_needed"
	ExprWrong              Code = "expr_wrong"
	ExprType               Code = "expr_type"
	RequiredWithThresholds Code = "required_with_thresholds"
	ForecastWithChange     Code = "forecast_with_change"
	ForecastOfCounter      Code = "forecast_of_counter"
	MetricNeeded           Code = "metric_needed"
	MetricUnknown          Code = "metric_unknown"
	MetricUnknownNear      Code = "metric_unknown_near"
	MetricLevel            Code = "metric_level"
	DimensionUnknown       Code = "dimension_unknown"
	DimensionNone          Code = "dimension_none"
	StatisticCounter       Code = "statistic_counter"
	StatisticIncrease      Code = "statistic_increase"
	StatisticSum           Code = "statistic_sum"
	StatisticEqual         Code = "statistic_equal"
	Period                 Code = "period"
	PeriodNeeded           Code = "period_needed"
	PeriodPercentile       Code = "period_percentile"
	NeedOverOf             Code = "need_over_of"
	OfSpan                 Code = "of_span"
	RecoveryAlone          Code = "recovery_alone"
	ThresholdGreater       Code = "threshold_greater"
	ThresholdLess          Code = "threshold_less"
	RecoveryAtMost         Code = "recovery_at_most"
	RecoveryAtLeast        Code = "recovery_at_least"
	RecoveryEqual          Code = "recovery_equal"
	ThresholdsEqual        Code = "thresholds_equal"
	TargetsEmpty           Code = "targets_empty"
	RepeatMax              Code = "repeat_max"
	StepsAtMost            Code = "steps_at_most"
	StepAfter              Code = "step_after"

	// Targets.

	ForType        Code = "for_type"
	NotForType     Code = "not_for_type"
	FormatOwn      Code = "format_own"
	MediaType      Code = "media_type"
	HeaderName     Code = "header_name"
	HeaderOurs     Code = "header_ours"
	Masked         Code = "masked"
	MaskedURL      Code = "masked_url"
	Shaped         Code = "shaped"
	RobotKey       Code = "robot_key"
	URLOrToken     Code = "url_or_token"
	URLNeeded      Code = "url_needed"
	URLWrong       Code = "url_wrong"
	URLScheme      Code = "url_scheme"
	URLUser        Code = "url_user"
	AddressRefused Code = "address_refused"
	Mailbox        Code = "mailbox"
	Mailboxes      Code = "mailboxes"
	PasswordOpen   Code = "password_open"
	PasswordAlone  Code = "password_alone"
	MailHost       Code = "mail_host"
	WeekDay        Code = "week_day"
	DayTime        Code = "day_time"
	DayTimeSame    Code = "day_time_same"
	Overlap        Code = "overlap"

	// Routes, silences, maintenance.

	RouteDefault      Code = "route_default"
	RouteDefaultTaken Code = "route_default_taken"
	RouteTargets      Code = "route_targets"
	RouteNobody       Code = "route_nobody"
	UntilNeeded       Code = "until_needed"
	UntilBefore       Code = "until_before"
	UntilFar          Code = "until_far"
	StartsOld         Code = "starts_old"
	RuleNeeded        Code = "rule_needed"
	RuleWrong         Code = "rule_wrong"
	RuleNever         Code = "rule_never"
	DurationOverlaps  Code = "duration_overlaps"

	// Boards.

	PanelOther      Code = "panel_other"
	QueryPromQL     Code = "query_promql"
	TableNarrowed   Code = "table_narrowed"
	MetricsBetween  Code = "metrics_between"
	ChartMetric     Code = "chart_metric"
	ChartMetricNear Code = "chart_metric_near"
	ChartLevel      Code = "chart_level"
	ChartLabel      Code = "chart_label"

	// Metrics of users.

	MetricExpr       Code = "metric_expr"
	MetricLetter     Code = "metric_letter"
	MetricPrometheus Code = "metric_prometheus"
	MetricCatalogue  Code = "metric_catalogue"
	MetricForeign    Code = "metric_foreign"
	MetricSent       Code = "metric_sent"
	MetricsFull      Code = "metrics_full"
	ChartGroup       Code = "chart_group"
	LabelWrong       Code = "label_wrong"
	LabelOfLevel     Code = "label_of_level"
	LabelTwice       Code = "label_twice"
	NeedOf           Code = "need_of"

	// Settings, tokens, clusters.

	LogPattern     Code = "log_pattern"
	LogWorkload    Code = "log_workload"
	LogMask        Code = "log_mask"
	LogMaskEmpty   Code = "log_mask_empty"
	LogMultiline   Code = "log_multiline"
	ClusterID      Code = "cluster_id"
	ClusterOfToken Code = "cluster_of_token"

	// Lists, backtests.

	Cursor             Code = "cursor"
	BacktestNothing    Code = "backtest_nothing"
	BacktestFrom       Code = "backtest_from"
	FromBefore         Code = "from_before"
	Future             Code = "future"
	WhyObject          Code = "why_object"
	WhyObjectOf        Code = "why_object_of"
	WhyDimension       Code = "why_dimension"
	WhyDimensions      Code = "why_dimensions"
	WhyDimensionNeeded Code = "why_dimension_needed"
	StepShort          Code = "step_short"
	RowsAtMost         Code = "rows_at_most"
	LookBackFrom       Code = "look_back_from"
	PresetUnknown      Code = "preset_unknown"

	// Failures as a whole.

	Missing          Code = "missing"
	Gone             Code = "gone"
	Exists           Code = "exists"
	Stale            Code = "stale"
	Changed          Code = "changed"
	Managed          Code = "managed"
	TargetUsed       Code = "target_used"
	SettingsStale    Code = "settings_stale"
	IncidentResolved Code = "incident_resolved"
	IncidentQuiet    Code = "incident_quiet"
	LinkBroken       Code = "link_broken"
	LinkForeign      Code = "link_foreign"
	LinkUsed         Code = "link_used"
	LinkExpired      Code = "link_expired"
	BacktestsFull    Code = "backtests_full"
	QueriesFull      Code = "queries_full"
	DownloadsFull    Code = "downloads_full"
	TailsFull        Code = "tails_full"
	QuerySlow        Code = "query_slow"
	AnswerLarge      Code = "answer_large"
	ChartSteps       Code = "chart_steps"
	ChartSeries      Code = "chart_series"
	LineGone         Code = "line_gone"
	TokenUnknown     Code = "token_unknown"
	CredentialNone   Code = "credential_none"
	IngestOnly       Code = "ingest_only"
	BackupNowhere    Code = "backup_nowhere"
	BackupRunning    Code = "backup_running"
	Starting         Code = "starting"
	Unexpected       Code = "unexpected"
	LogsNone         Code = "logs_none"
	EngineElsewhere  Code = "engine_elsewhere"
)

// sentences are the codes' words in English; {names} stand for what differs.
var sentences = map[Code]string{

	Required:           "is required",
	RequiredFor:        "is required for {what}",
	RequiredOf:         "is required; allowed are {allowed}",
	OneNeeded:          "at least one is required",
	OneNeededOf:        "at least one of {allowed} is required",
	MustBe:             "must be {value}",
	OneOf:              "must be one of {allowed}",
	OneOfNear:          `must be one of {allowed}; did you mean "{near}"?`,
	AtLeast:            "must be at least {min}",
	AtMost:             "must be at most {max}",
	Between:            "must be from {min} to {max}",
	AboveAtMost:        "must be more than {min} and at most {max}",
	NotNegative:        "must not be negative",
	NotNegativeNorOver: "must not be negative, nor over {max}",
	CountAtMost:        "at most {max} are allowed",
	EntriesBetween:     "must have from {min} to {max} entries",
	EntriesAtMost:      "must have at most {max} entries",
	CharactersAtLeast:  "must have {min} characters or more",
	CharactersAtMost:   "must be at most {max} characters",
	CharactersBetween:  "must have {min} to {max} characters",
	BytesAtMost:        "must be at most {max} bytes",
	BytesBetween:       "must have {min} to {max} bytes",
	OneLine:            "must be one line",
	OneLineAtMost:      "must be one line of at most {max} bytes",
	NotNull:            "must not be null",
	NotList:            "must be a list",
	NotMap:             "must be a set of keys and values",
	NotObject:          "must be an object",
	NotObjectBut:       "must be an object, not {what}",
	NotText:            "must be text",
	NotBool:            "must be true or false",
	NotWhole:           "must be a whole number",
	NotNumber:          "must be a number",
	NotTime:            "must be a time in RFC 3339",
	NotDuration:        `must be a duration that is not negative, written as "30s", "5m" or "1h30m"`,
	Matching:           "must match the pattern {pattern}",
	KeyUnknown:         "unknown key",
	KeyNone:            "unknown key; none is allowed here",
	KeyNear:            `unknown key; did you mean "{near}"?`,
	KeyOf:              "unknown key; allowed are {allowed}",

	Name:              "must be 1 to 63 of a-z, 0-9 and -",
	NameFixed:         `must be "{name}", as in the address; a name cannot be changed`,
	ProjectDefault:    "projects other than default are not supported yet",
	LabelName:         "a label's name must be letters, digits, and between them . _ / -",
	AnnotationName:    "an annotation's name must be letters, digits, and between them . _ / -",
	Glob:              "must be 1 to {max} characters; * stands for any text, ? for one character",
	GlobsEmpty:        "must not be empty; leave it out to select all",
	WorkloadGlob:      "must be type/name with the type in lower case, as deployment/cart or statefulset/*",
	Selector:          "must be a Kubernetes label selector, as tier in (web,api): {why}",
	Matcher:           `must be a matcher, as team="shop" or pod=~"cart-.*": {why}`,
	MatcherNeeded:     `at least one is required, as team="shop"`,
	MatchersAll:       "at least one must not match what is empty, or everything would be muted",
	Zone:              "must be the name of an IANA time zone, as Europe/Berlin",
	Template:          "{why}",
	TargetUnknown:     "there is no such target; create it first",
	TargetUnknownNear: `there is no such target; create it first, or did you mean "{near}"?`,
	TargetNameless:    "must be the name of a target",
	TargetTwice:       "the target is named twice",
	TargetsNone:       "must name at least one target",
	TargetOther:       "must be another target",

	ObjectsUncounted:       "objects of this level cannot be counted: they are not in the inventory",
	ObjectsUnlabelled:      "objects of this level have no labels in the inventory; use names",
	ClusterNoPart:          "a cluster has no such part; use spec.clusters to select clusters",
	ClusterSelect:          "use spec.clusters to select clusters",
	NodeNoPart:             "a node has no namespace and no workload; use names or selector",
	ComponentNoPart:        "a component of the control plane has no namespace and no workload; use names",
	LevelNoWorkload:        "a {level} has no workload; use namespaces or names",
	DimensionsDiffer:       "has the dimensions {these}, while conditions[{other}] has {those}: put them into two policies",
	ForLines:               "is for policies of level log or event",
	ForPromQL:              "is for policies of level promql",
	SeverityWithOp:         "is for an expr without op; name the severities in thresholds",
	NotWithQuery:           "does not go with query: matching lines are counted for each period",
	QueryNeeded:            "is required: a LogsQL filter, as level:error; * matches every line",
	QueryFilter:            "must be a LogsQL filter without pipes: {why}",
	GroupByOther:           "must be {value}, as in conditions[0]: a policy judges objects of one level",
	CountNever:             "never holds: a count is at least 0",
	NoDataOfLines:          `must be keep: no line is the value 0, so say op: "<" with the threshold 1`,
	NotWithExpr:            "does not go with expr: say it in PromQL",
	ExprNeeded:             "is required: a PromQL expression",
	ExprWrong:              "must be PromQL: {why}",
	ExprType:               "must give one value for each series, not a {type}",
	RequiredWithThresholds: "is required with thresholds",
	ForecastWithChange:     "does not go with change: put it into a condition of its own",
	ForecastOfCounter:      "the metric is a counter, whose value has no forecast",
	MetricNeeded:           "is required; the catalogue lists what there is",
	MetricUnknown:          "is not in the catalogue",
	MetricUnknownNear:      `is not in the catalogue; did you mean "{near}"?`,
	MetricLevel:            "is about a {level}, the policy is about a {other}",
	DimensionUnknown:       "the metric has no such dimension; allowed are {allowed}",
	DimensionNone:          "the metric has no such dimension; use spec.objects to select objects",
	StatisticCounter:       "must be increase: the metric is a counter",
	StatisticIncrease:      "increase is for counters; the metric is a {kind}",
	StatisticSum:           "sum is for counts; the metric's unit is {unit}",
	StatisticEqual:         "with == and != it must be last, min, max or increase",
	Period:                 "must be a multiple of {intervals}, at most {max}",
	PeriodNeeded:           "is required; must be a multiple of {intervals}, at most {max}",
	PeriodPercentile:       "must be at least {min}: {statistic} needs {samples} samples",
	NeedOverOf:             "must be at most of, which is {of}",
	OfSpan:                 "of × period must be at most {span}, so at most {max} periods of {period}",
	RecoveryAlone:          "there is no threshold of this severity",
	ThresholdGreater:       "must be greater than that of {other}, which is {value}: thresholds grow worse with severity",
	ThresholdLess:          "must be less than that of {other}, which is {value}: thresholds grow worse with severity",
	RecoveryAtMost:         "must be at most the threshold, which is {value}: recovery lies on the good side",
	RecoveryAtLeast:        "must be at least the threshold, which is {value}: recovery lies on the good side",
	RecoveryEqual:          "== and != take no recovery",
	ThresholdsEqual:        "with == and != only one severity is possible: no value is worse than another",
	TargetsEmpty:           "must name at least one target; leave it out when nobody is to be told",
	RepeatMax:              "must be at least every and at most {max}",
	StepsAtMost:            "at most {max} steps are allowed",
	StepAfter:              "must be longer than that of the step before",

	ForType:        "is for {what} only",
	NotForType:     "is not for {what}",
	FormatOwn:      "is for type webhook only; {type} has its own",
	MediaType:      "must be a media type as application/json or text/plain",
	HeaderName:     "is no name of a header",
	HeaderOurs:     "is set by the server",
	Masked:         "is masked; give the value",
	MaskedURL:      "is masked; give the whole address",
	Shaped:         "must be {what}",
	RobotKey:       "must have the robot's key in it: ?{key}=…",
	URLOrToken:     "either a webhook's url or a token",
	URLNeeded:      "is required: the address that notifications are posted to, as https://example.com/hook",
	URLWrong:       "must be an address as https://example.com/hook",
	URLScheme:      "must begin with https:// or http://",
	URLUser:        "must not carry a user name or password; give a header Authorization, or check the signature",
	AddressRefused: "{why}",
	Mailbox:        "must be one address as ops@example.com",
	Mailboxes:      "must be from 1 to {max} addresses",
	PasswordOpen:   "a password is not sent over an open connection; use starttls or implicit",
	PasswordAlone:  "username and password belong together",
	MailHost:       "must be the name or address of the SMTP server",
	WeekDay:        "must be one of mon, tue, wed, thu, fri, sat, sun",
	DayTime:        "must be a time of the day, as {example}",
	DayTimeSame:    "must differ from from; a whole day is from 00:00 to 24:00",
	Overlap:        "must be a duration from 0s to 30d",

	RouteDefault:      "the default route is for what no other matches: it has no matching part",
	RouteDefaultTaken: `route "{name}" is the default already`,
	RouteTargets:      "must name at least one target, unless nobody is true",
	RouteNobody:       "is for a route without targets",
	UntilNeeded:       "is required: when the silence ends, in RFC 3339",
	UntilBefore:       "must be after from",
	UntilFar:          "must be at most {max} days after from",
	StartsOld:         "must be within the last {years} years: the rule is walked through from there",
	RuleNeeded:        "is required: a rule of RFC 5545, as FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0",
	RuleWrong:         "must be a rule of RFC 5545, as FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0: {why}",
	RuleNever:         "never happens",
	DurationOverlaps:  "must be at most {max}: the next begins then",

	PanelOther:      "does not belong to a panel of kind {kind}, only to {kinds}",
	QueryPromQL:     "is no PromQL: {why}",
	TableNarrowed:   "a table is narrowed by cluster, namespace, node, workload_type and workload",
	MetricsBetween:  "must name 1 to {max} metrics",
	ChartMetric:     "the catalogue has no such metric",
	ChartMetricNear: "the catalogue has no such metric; the nearest is {near}",
	ChartLevel:      "is about a {level}, those before it about a {other}",
	ChartLabel:      "metrics of a {level} have no such label",

	MetricExpr:       "{why}",
	MetricLetter:     "must begin with a letter: it is the name of the metric's series, with _ for -",
	MetricPrometheus: "is a name of Prometheus' own",
	MetricCatalogue:  "is a name of the catalogue's own metrics",
	MetricForeign:    `must not begin with "{prefix}": such names belong to others`,
	MetricSent:       "series called {name} are sent by a collector or another sender",
	MetricsFull:      "there are {n} metrics already, as many as there may be",
	ChartGroup:       "needs a group of at most {max} bytes and a max that is not negative",
	LabelWrong:       "must be a label's name",
	LabelOfLevel:     "is a label of the level already",
	LabelTwice:       "is there twice",
	NeedOf:           "must be 1 to of, and of at most {max}",

	LogPattern:     "is no pattern, as shop, team-* or !kube-system",
	LogWorkload:    "must be type/name, as deployment/cart or !*/noisy",
	LogMask:        "is no regular expression: {why}",
	LogMaskEmpty:   "must not match an empty text",
	LogMultiline:   "needs either start, a regular expression, or off",
	ClusterID:      "must have 1 to 63 characters of a-z, 0-9 and -, beginning and ending with a letter or digit",
	ClusterOfToken: "is for ingest tokens only",

	Cursor:             "must be next of an answer before",
	BacktestNothing:    "either it or draft is required",
	BacktestFrom:       "must be before to, and within the last {days} days",
	FromBefore:         "must be before to",
	Future:             "must be in the future",
	WhyObject:          `must be level and name, as "pod shop/cart-1", for a policy of level promql`,
	WhyObjectOf:        "must be {what}: the policy is about a {level}",
	WhyDimension:       "must be name=value, as mountpoint=/data",
	WhyDimensions:      "the policy's metrics have the dimensions {allowed}",
	WhyDimensionNeeded: "each value is judged by itself: say which, as {name}=…",
	StepShort:          "must be longer: at most {max} values are given of a line",
	RowsAtMost:         "must be at most {max}; narrow the time range, or download it from /apis/crowsnest.dev/v1/logs/download",
	LookBackFrom:       "must be within the last {days} days",
	PresetUnknown:      "there is no such preset",

	Missing:          `{kind} "{name}" does not exist`,
	Gone:             "{what} was deleted at {at}",
	Exists:           `{kind} "{name}" is there already`,
	Stale:            `{kind} "{name}": revision {given} is not the current one, which is {current}: read it again and repeat the change`,
	Changed:          `{kind} "{name}" was changed meanwhile: read it again and repeat the change`,
	Managed:          `{kind} "{name}" is managed by {manager}; change it there, or use force`,
	TargetUsed:       `target "{name}": policy "{policy}" names it; take it out there first`,
	SettingsStale:    `settings of cluster "{cluster}" have version {current}, the change was made from {given}`,
	IncidentResolved: "incident {id} is resolved",
	IncidentQuiet:    "incident {id} has no alert that fires",
	LinkBroken:       "this link is cut short or changed",
	LinkForeign:      "this link is not of this server, or was changed",
	LinkUsed:         "this link was used already",
	LinkExpired:      "this link could be used until {until}",
	BacktestsFull:    "{n} backtests wait already",
	QueriesFull:      "{n} queries run already, and none ended within {wait}",
	DownloadsFull:    "{n} downloads run already",
	TailsFull:        "there are {n} live tails already",
	QuerySlow:        "the query took longer than {limit}: narrow its time range or its streams",
	AnswerLarge:      "the answer has more than {rows} rows or {mib} MiB: add a limit, narrow the time range, or count with a stats pipe",
	ChartSteps:       "a chart of {steps} steps: take longer ones",
	ChartSeries:      "a chart of more than {series} series with {steps} steps: choose fewer series, or longer steps",
	LineGone:         "there is no such line in the stream any more",
	TokenUnknown:     "the token is not known here",
	CredentialNone:   `the request has no credential: send "Authorization: Bearer TOKEN"`,
	IngestOnly:       `ingest token "{name}" may only send data, not {verb}`,
	BackupNowhere:    "the server was started without --backup-dir, a folder for backups, or --backup-bucket",
	BackupRunning:    "a backup is being made since {since}",
	Starting:         "the server is starting; /readyz says how far it is",
	Unexpected:       "the server met an error that it did not expect; its log has it under the instance",
	LogsNone:         "there is no log store",
	EngineElsewhere:  "another engine evaluates",
}

// Codes gives every code there is, in the order of the alphabet.
func Codes() []Code { return slices.Sorted(maps.Keys(sentences)) }

// Sentence is the code's words in English, with {names} for what differs.
func (c Code) Sentence() string { return sentences[c] }

// Reason is why something is refused, in a sentence that can be said in another
// language.
type Reason struct {
	Code   Code
	Params map[string]string // what stands for the sentence's {names}
	Text   string            // the sentence in English
}

// Say gives the sentence of a code; args stand for its {names}, in their order.
func Say(c Code, args ...any) Reason {
	text := sentences[c]
	var out strings.Builder
	var params map[string]string
	for _, arg := range args {
		before, rest, ok := strings.Cut(text, "{")
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			break // more arguments than names: a test of the sentences holds that there are none
		}
		if params == nil {
			params = make(map[string]string, len(args))
		}
		params[name] = fmt.Sprint(arg)
		out.WriteString(before + params[name])
		text = after
	}
	return Reason{Code: c, Params: params, Text: out.String() + text}
}

// Plain is a reason that only its own words tell.
func Plain(text string) Reason { return Reason{Text: text} }

// Refused is an error of a kind, for a reason.
type Refused struct {
	Kind   error // one of the kinds above
	Reason Reason
}

// Because gives an error of a kind, for the reason that a code and its args tell.
func Because(kind error, c Code, args ...any) error {
	return &Refused{Kind: kind, Reason: Say(c, args...)}
}

func (r *Refused) Error() string { return r.Reason.Text }

// Unwrap makes errors.Is(r, r.Kind) true.
func (r *Refused) Unwrap() error { return r.Kind }
