{{- define "churn-platform.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the objects. 48 characters leave room for the suffixes. */}}
{{- define "churn-platform.fullname" -}}
{{- $name := include "churn-platform.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $default | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "churn-platform.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/name: {{ include "churn-platform.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: churn
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
Labels by which the chart finds its pods. Dagster gives the pods of runs labels `app.kubernetes.io/...` of its own,
so these have other names. Argument: a list of the root context and the component.
*/}}
{{- define "churn-platform.selectorLabels" -}}
churn-platform/release: {{ include "churn-platform.fullname" (index . 0) }}
churn-platform/component: {{ index . 1 }}
{{- end -}}

{{- define "churn-platform.image" -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "churn-platform.postgresHost" -}}
{{- ternary (printf "%s-postgresql" (include "churn-platform.fullname" .)) .Values.postgresql.host .Values.postgresql.trial.enabled -}}
{{- end -}}

{{- define "churn-platform.trackingUri" -}}
{{- .Values.mlflow.trackingUri | default (printf "http://%s-mlflow:5000" (include "churn-platform.fullname" .)) -}}
{{- end -}}

{{/* Name of the storage's claim; empty where the storage is a URL. */}}
{{- define "churn-platform.claim" -}}
{{- with .Values.storage -}}
{{- .existingClaim | default (ternary (printf "%s-storage" (include "churn-platform.fullname" $)) "" .create.enabled) -}}
{{- end -}}
{{- end -}}

{{- define "churn-platform.contractPath" -}}
{{- ternary (printf "/etc/churn/contract/%s.py" .Values.contract.name) .Values.contract.name (not (empty .Values.contract.file)) -}}
{{- end -}}

{{/* Settings that the chart sets itself. */}}
{{- define "churn-platform.ownSettings" -}}
{{- $storage := .Values.storage -}}
CHURN_CONTRACT: {{ include "churn-platform.contractPath" . }}
CHURN_MLFLOW_TRACKING_URI: {{ include "churn-platform.trackingUri" . }}
CHURN_HOME: {{ ternary "/tmp/churn" "/var/lib/churn" (empty (include "churn-platform.claim" .)) }}
{{- with trimSuffix "/" $storage.url }}
CHURN_LAKE: {{ . }}/lake
CHURN_REPORTS: {{ . }}/reports
CHURN_ARCHIVES: {{ . }}/archives
CHURN_PREDICTIONS: {{ $storage.predictions | default (printf "%s/predictions" .) }}
{{- else }}
{{- with $storage.predictions }}
CHURN_PREDICTIONS: {{ . }}
{{- end }}
{{- end }}
{{- if .Values.idKey.existingSecret }}
CHURN_ID_KEY_FILE: /etc/churn/id/id.key
{{- end }}
{{- end -}}

{{/* One variable of `settings`: a group has one variable for each member, and what has braces is JSON. */}}
{{- define "churn-platform.settings" -}}
{{- range $name, $value := .Values.settings }}
{{- if and (kindIs "map" $value) (ne $name "step_resources") }}
{{- range $part, $inner := $value }}
CHURN_{{ upper $name }}__{{ upper $part }}: {{ include "churn-platform.text" $inner }}
{{- end }}
{{- else }}
CHURN_{{ upper $name }}: {{ include "churn-platform.text" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "churn-platform.text" -}}
{{- ternary . (toJson .) (kindIs "string" .) | quote -}}
{{- end -}}

{{- define "churn-platform.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "churn-platform.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A NetworkPolicy peer from `namespaceLabels` and `podLabels`, in a list; nothing where both are empty. */}}
{{- define "churn-platform.peer" -}}
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
