{{/* Variables of every pod that speaks to PostgreSQL, by libpq's names: no URL, file or command has the password. */}}
{{- define "churn-platform.postgresEnv" -}}
{{- with .Values.postgresql }}
- name: PGHOST
  value: {{ include "churn-platform.postgresHost" $ }}
- name: PGPORT
  value: {{ int64 .port | quote }}
- name: PGSSLMODE
  value: {{ .sslmode }}
- name: PGUSER
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: username}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: password}
{{- end }}
{{- end -}}

{{- define "churn-platform.storeEnv" -}}
{{- range $name, $value := .Values.storage.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.storage.existingSecret }}
{{- range $name := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.storage.existingSecret }}, key: {{ $name }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Variables of what executes the graph's code: code location, runs, steps, the preflight test. */}}
{{- define "churn-platform.graphEnv" -}}
{{- include "churn-platform.postgresEnv" . }}
{{- with .Values.mlflow.existingSecret }}
- name: MLFLOW_TRACKING_USERNAME
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: username}
- name: MLFLOW_TRACKING_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: password}
{{- end }}
{{- include "churn-platform.storeEnv" . }}
{{- range .Values.settingsSecret.entries }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.settingsSecret.name }}, key: {{ . }}}
{{- end }}
{{- end -}}

{{/* Argument: whether the pod has a token. */}}
{{- define "churn-platform.instanceMount" -}}
- name: instance
  mountPath: /opt/dagster/dagster.yaml
  subPath: {{ ternary "dagster.yaml" "without-launcher.yaml" . }}
  readOnly: true
{{- end -}}

{{- define "churn-platform.instanceVolume" -}}
- name: instance
  configMap:
    name: {{ include "churn-platform.fullname" . }}-instance
{{- end -}}

{{- define "churn-platform.graphMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "churn-platform.claim" . }}
- name: storage
  mountPath: /var/lib/churn
{{- end }}
{{- if .Values.contract.file }}
- name: contract
  mountPath: /etc/churn/contract
  readOnly: true
{{- end }}
{{- if .Values.idKey.existingSecret }}
- name: id-key
  mountPath: /etc/churn/id
  readOnly: true
{{- end }}
{{- end -}}

{{- define "churn-platform.graphVolumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmpSizeLimit }}
{{- with include "churn-platform.claim" . }}
- name: storage
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- if .Values.contract.file }}
- name: contract
  configMap:
    name: {{ include "churn-platform.fullname" . }}-contract
{{- end }}
{{- with .Values.idKey.existingSecret }}
- name: id-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - key: {{ $.Values.idKey.existingSecretKey }}
        path: id.key
{{- end }}
{{- end -}}

{{/* Where the pods may be placed. */}}
{{- define "churn-platform.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  {{- range list "node.kubernetes.io/unreachable" "node.kubernetes.io/not-ready" }}
  - {key: {{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int64 $.Values.runs.unreachableSeconds }}}
  {{- end }}
  {{- with .Values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
A pod template of the platform's image. Argument: a mapping with `root`, `component`, `args`, `resources`, and
optionally `account` (ServiceAccount with a token), `graph` (executes the graph's code), `env`, `mounts`, `volumes`,
`ports`, `probes` as YAML text.
*/}}
{{- define "churn-platform.podTemplate" -}}
{{- $root := .root }}
metadata:
  labels:
    {{- include "churn-platform.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- include "churn-platform.selectorLabels" (list $root .component) | nindent 4 }}
  annotations:
    checksum/instance: {{ include (print $root.Template.BasePath "/instance.yaml") $root | sha256sum }}
    {{- if .graph }}
    checksum/settings: {{ include (print $root.Template.BasePath "/settings.yaml") $root | sha256sum }}
    {{- end }}
spec: {{- include "churn-platform.podSpec" . | nindent 2 }}
{{- end -}}

{{- define "churn-platform.podSpec" -}}
{{- $root := .root -}}
serviceAccountName: {{ .account | default (include "churn-platform.fullname" $root) }}
automountServiceAccountToken: {{ not (empty .account) }}
# A Service named churn-... would set variables CHURN_..., which the settings refuse.
enableServiceLinks: false
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
securityContext: {{- include "churn-platform.podSecurity" $root.Values.runAsUser | nindent 2 }}
{{ include "churn-platform.placement" $root }}
containers:
  - name: {{ .component }}
    image: {{ include "churn-platform.image" $root.Values.image }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{- toYaml .args | nindent 6 }}
    securityContext: {{- include "churn-platform.containerSecurity" $root | nindent 6 }}
    {{- if .graph }}
    envFrom:
      - configMapRef:
          name: {{ include "churn-platform.fullname" $root }}-settings
    {{- end }}
    env:
      {{- if .graph }}
      {{- include "churn-platform.graphEnv" $root | nindent 6 }}
      {{- else }}
      {{- include "churn-platform.postgresEnv" $root | nindent 6 }}
      {{- end }}
      {{- with .env }}
      {{- . | nindent 6 }}
      {{- end }}
    {{- with .ports }}
    ports: {{- . | nindent 6 }}
    {{- end }}
    {{- with .probes }}
    {{- . | nindent 4 }}
    {{- end }}
    resources: {{- toYaml .resources | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      {{- include "churn-platform.instanceMount" (not (empty .account)) | nindent 6 }}
      {{- include "churn-platform.graphMounts" $root | nindent 6 }}
      {{- with .mounts }}
      {{- . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "churn-platform.instanceVolume" $root | nindent 2 }}
  {{- include "churn-platform.graphVolumes" $root | nindent 2 }}
  {{- with .volumes }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
