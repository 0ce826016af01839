{{/*
The analysis of a rollout. `{{args.canary}}` and `{{args.stable}}` are arguments of Argo Rollouts: pod-template
hashes, by which Prometheus tells the pods of two versions apart.
*/}}

{{/* Templates and arguments of a step with a weight, from a list of context and weight. */}}
{{- define "churn-service.analysis.step" -}}
{{- $root := index . 0 }}
{{- $fullname := include "churn-service.fullname" $root -}}
templates:
  - templateName: {{ $fullname }}-limits
  {{- if lt (int (index . 1)) 100 }}
  # At 100% the stable pods answer nothing that could be compared.
  - templateName: {{ $fullname }}-against-stable
  {{- end }}
  {{- if $root.Values.analysis.rescoring.enabled }}
  - templateName: {{ $fullname }}-rescoring
  {{- end }}
  {{- range $root.Values.analysis.extraTemplates }}
  - templateName: {{ . }}
  {{- end }}
args: {{- include "churn-service.analysis.args" (list "Latest" $root.Values.analysis.successes) | nindent 2 }}
{{- end -}}

{{/* Arguments, from a list of the judged pods and the successes in a row that end the analysis (0: it goes on). */}}
{{- define "churn-service.analysis.args" -}}
- name: canary
  valueFrom: {podTemplateHashValue: {{ index . 0 }}}
- name: stable
  valueFrom: {podTemplateHashValue: Stable}
- name: successes
  value: {{ index . 1 | toString | quote }}
{{- end -}}

{{/* Labels of the series of a version, `canary` or `stable`, from a list of context and version. */}}
{{- define "churn-service.analysis.pods" -}}
namespace="{{ (index . 0).Release.Namespace }}",{{ (index . 0).Values.analysis.prometheus.hashLabel }}="{{ printf "{{args.%s}}" (index . 1) }}"
{{- end -}}

{{/* Requests of a version in the window, answered and refused; nothing where they are too few to judge. */}}
{{- define "churn-service.analysis.requests" -}}
{{- $pods := include "churn-service.analysis.pods" . -}}
{{- with (index . 0).Values.analysis -}}
{{- $window := printf "[%ds]" (int .windowSeconds) -}}
(
  (sum(increase(churn_prediction_latency_seconds_count{ {{- $pods -}} }{{ $window }})) or vector(0))
  + (sum(increase(churn_prediction_errors_total{ {{- $pods -}} }{{ $window }})) or vector(0))
  >= {{ int64 .minRequests }}
)
{{- end -}}
{{- end -}}

{{/* Share of a version's requests that ended in one of the types of problems, from a list of context, version and types. */}}
{{- define "churn-service.analysis.share" -}}
{{- $pods := include "churn-service.analysis.pods" . -}}
(sum(increase(churn_prediction_errors_total{ {{- $pods }},error_type=~"{{ index . 2 }}"}[{{ int (index . 0).Values.analysis.windowSeconds }}s])) or vector(0))
/ {{ include "churn-service.analysis.requests" . }}
{{- end -}}

{{- define "churn-service.analysis.p99" -}}
{{- $pods := include "churn-service.analysis.pods" . -}}
histogram_quantile(0.99, sum by (le) (rate(churn_prediction_latency_seconds_bucket{ {{- $pods -}} }[{{ int (index . 0).Values.analysis.windowSeconds }}s])))
{{- end -}}

{{/*
One metric, from a list of context, name, limit and query; nothing where the limit is null. An empty result and
NaN fulfil neither condition: the measurement is inconclusive.
*/}}
{{- define "churn-service.analysis.metric" -}}
{{- $limit := index . 2 -}}
{{- with (index . 0).Values.analysis -}}
{{- if not (kindIs "invalid" $limit) -}}
- name: {{ index $ 1 }}
  interval: {{ .intervalSeconds }}s
  successCondition: len(result) > 0 && result[0] <= {{ $limit }}
  failureCondition: len(result) > 0 && result[0] > {{ $limit }}
  consecutiveSuccessLimit: {{ "{{args.successes}}" | quote }}
  failureLimit: {{ .failureLimit }}
  # Both are more than the deadline has room for: it waits for requests until then. An analysis without a
  # count is refused as a step.
  inconclusiveLimit: {{ add 1 (div .deadlineSeconds .intervalSeconds) }}
  count: {{ add 1 (div .deadlineSeconds .intervalSeconds) .failureLimit .successes }}
  consecutiveErrorLimit: {{ .consecutiveErrorLimit }}
  provider:
    prometheus: {{- include "churn-service.analysis.prometheus" . | nindent 6 }}
      query: |-
        {{- index $ 3 | nindent 8 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "churn-service.analysis.prometheus" -}}
address: {{ .prometheus.address | quote }}
timeout: {{ .prometheus.timeoutSeconds }}
{{- end -}}

{{/* Only without a pause or an analysis as a step does this deadline count; in blue/green it covers the analysis. */}}
{{- define "churn-service.progressDeadlineSeconds" -}}
{{- $analysis := and .Values.analysis.enabled (eq .Values.strategy.type "blueGreen") -}}
{{- add .Values.progressDeadlineSeconds (ternary .Values.analysis.deadlineSeconds 0 $analysis) -}}
{{- end -}}
