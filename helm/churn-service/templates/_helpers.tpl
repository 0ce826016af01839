{{- define "churn-service.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the objects. 52 characters leave room for the suffixes. */}}
{{- define "churn-service.fullname" -}}
{{- $name := include "churn-service.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $default | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of selectors, which can never change: name and instance alone. */}}
{{- define "churn-service.selectorLabels" -}}
app.kubernetes.io/name: {{ include "churn-service.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "churn-service.version" -}}
{{- .Values.image.tag | default (trimPrefix "sha256:" .Values.image.digest | trunc 12) | default .Chart.AppVersion | trunc 63 -}}
{{- end -}}

{{- define "churn-service.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "churn-service.podLabels" . }}
{{- end -}}

{{/* Without the chart's version: a new chart that changes nothing in the pod does not restart it. */}}
{{- define "churn-service.podLabels" -}}
{{ include "churn-service.selectorLabels" . }}
app.kubernetes.io/version: {{ include "churn-service.version" . | quote }}
app.kubernetes.io/component: service
app.kubernetes.io/part-of: churn
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Reference of an image, from one of the `image` values. */}}
{{- define "churn-service.image" -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "churn-service.serviceAccountName" -}}
{{- $default := ternary (include "churn-service.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{- define "churn-service.keysSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-keys" (include "churn-service.fullname" .)) -}}
{{- end -}}

{{/* Seconds that a pod needs to stop; 20 of them for its logs. The shipper ends after the service. */}}
{{- define "churn-service.stopSeconds" -}}
{{- $log := .Values.predictionLog -}}
{{- $shipping := ternary $log.shipping.stopSeconds 0 (and $log.enabled $log.shipping.enabled) -}}
{{- ceil (addf .Values.preStopSleepSeconds .Values.config.drainSeconds .Values.config.timeoutSeconds 20 $shipping) -}}
{{- end -}}

{{/* Fewest pods of the release. */}}
{{- define "churn-service.replicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicaCount .Values.autoscaling.enabled | int -}}
{{- end -}}

{{/*
"true" where a TraefikService divides the requests. A blue/green has one, too, because Traefik reads routes and
its own objects one after the other: a route that changes to a new one gives 404 for a moment.
*/}}
{{- define "churn-service.traefik" -}}
{{- with .Values.strategy }}
{{- if and $.Values.httpRoute.enabled (ne .type "rolling") (eq .canary.trafficRouting.provider "traefik") }}true{{ end }}
{{- end }}
{{- end -}}

{{- define "churn-service.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 .Values.runAsUser }}
runAsGroup: {{ int64 .Values.runAsUser }}
fsGroup: {{ int64 .Values.runAsUser }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "churn-service.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Variables of the service. They are in the pod, so that a change restarts the pods. */}}
{{- define "churn-service.env" -}}
{{- $log := .Values.predictionLog -}}
{{- with .Values.config -}}
CHURN_API_KEYS_FILE: /etc/churn/keys/keys.json
CHURN_API_METRICS: {{ .metrics }}
CHURN_API_RATE_LIMIT: {{ .rateLimit }}
CHURN_API_MAX_BODY_BYTES: {{ int64 .maxBodyBytes | quote }}
CHURN_API_MAX_CONCURRENCY: {{ int64 .maxConcurrency | quote }}
CHURN_API_MAX_BATCHES: {{ int64 .maxBatches | quote }}
CHURN_API_TIMEOUT: {{ .timeoutSeconds | quote }}
CHURN_API_DRAIN_SECONDS: {{ .drainSeconds | quote }}
CHURN_API_WORKERS: {{ int64 .workers | quote }}
CHURN_API_LOG_LEVEL: {{ .logLevel }}
CHURN_API_BREAKER_FAILURES: {{ int64 .breakerFailures | quote }}
CHURN_API_BREAKER_SECONDS: {{ .breakerSeconds | quote }}
{{- with .otlpEndpoint }}
CHURN_API_OTLP_ENDPOINT: {{ . }}
{{- end }}
CHURN_API_OTLP_SAMPLE_RATE: {{ .otlpSampleRate | quote }}
{{- end }}
CHURN_API_PREDICTION_LOG: {{ ternary "/var/log/churn" "none" $log.enabled }}
CHURN_API_PREDICTION_LOG_FILE_BYTES: {{ int64 $log.fileBytes | quote }}
CHURN_API_PREDICTION_LOG_FILE_SECONDS: {{ $log.fileSeconds | quote }}
# The shipper removes the files: a service that did so would take the oldest, which are not shipped yet.
CHURN_API_PREDICTION_LOG_FILES: {{ ternary 10000 (int64 $log.files) $log.shipping.enabled | quote }}
CHURN_API_PREDICTION_LOG_QUEUE: {{ int64 $log.queue | quote }}
{{- if $log.enabled }}
CHURN_API_POD_INFO: /etc/podinfo
{{- end }}
{{- if .Values.idKey.existingSecret }}
CHURN_API_ID_KEY_FILE: /etc/churn/id/id.key
{{- end }}
{{- end -}}

{{/* A NetworkPolicy peer from `namespaceLabels` and `podLabels`, in a list; nothing where both are empty. */}}
{{- define "churn-service.peer" -}}
{{- if or .namespaceLabels .podLabels }}
- {{- with .namespaceLabels }}
  namespaceSelector:
    matchLabels: {{- toYaml . | nindent 6 }}
  {{- end }}
  {{- with .podLabels }}
  podSelector:
    matchLabels: {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end }}
{{- end -}}
