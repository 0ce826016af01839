{{/* Refuses values with all their problems at once. The schema has refused wrong types and unknown keys. */}}
{{- define "churn-platform.validate" -}}
{{- $lines := list -}}
{{- range $rule := list "images" "contract" "storage" "servers" "secrets" "network" -}}
{{- range include (printf "churn-platform.validate.%s" $rule) $ | splitList "\n" -}}
{{- with trim . }}{{ $lines = append $lines (printf "  - %s" .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $lines -}}
{{- printf "\n\nthe values are refused, nothing was changed:\n%s\n" (join "\n" $lines) | fail -}}
{{- end -}}
{{- end -}}

{{/* Each rule below writes one line a problem. */}}
{{- define "churn-platform.validate.images" }}
{{- $images := dict "image" .Values.image }}
{{- if .Values.postgresql.trial.enabled }}
{{- $images = set $images "postgresql.trial.image" .Values.postgresql.trial.image }}
{{- end }}
{{- range $name, $image := $images }}
{{- if not (or $image.tag $image.digest) }}
{{ $name }}.tag and {{ $name }}.digest are empty: set one of them
{{- end }}
{{- if eq $image.tag "latest" }}
{{ $name }}.tag is "latest", which names another image each day: set a version, or {{ $name }}.digest
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-platform.validate.contract" }}
{{- with .Values.contract }}
{{- if and .file (not (regexMatch "^[a-z_][a-z0-9_]*$" .name)) }}
contract.name is {{ .name | quote }}: set the name of the contract's file without .py, in lower-case letters, digits and _
{{- end }}
{{- if and (not .file) (not (has .name (list "telecom" "ibm_telco"))) }}
contract.name is {{ .name | quote }}, which is not shipped: pass its file, --set-file contract.file={{ .name }}.py
{{- end }}
{{- if and .file (not (contains "CustomerContract" .file)) }}
contract.file is {{ .file | trunc 40 | quote }}: it must be the text of a contract; --set-file reads a file, --set does not
{{- end }}
{{- end }}
{{- if and .Values.settings.step_resources (ne (.Values.settings.executor | default "in_process") "k8s") }}
settings.step_resources is set and settings.executor is not k8s: the steps share the pod of their run, so set runs.resources
{{- end }}
{{- end }}

{{- define "churn-platform.validate.storage" }}
{{- with .Values.storage }}
{{- $chosen := len (without (list .existingClaim .url (ternary "create" "" .create.enabled)) "") }}
{{- if ne $chosen 1 }}
storage.existingClaim, storage.create.enabled and storage.url: set exactly one of them, not {{ $chosen }}
{{- end }}
{{- if and .url (not (regexMatch "^(s3|gs|gcs|abfs|abfss|az)://[^/]" .url)) }}
storage.url is {{ .url | quote }}: set s3://, gs:// or abfs://, with a bucket
{{- end }}
{{- range $name, $value := .env }}
{{- if or (hasPrefix "CHURN_" $name) (regexMatch "KEY|SECRET|TOKEN|PASSWORD" $name) }}
storage.env has {{ $name }}: {{ ternary "set the value of `settings` for it" "a secret belongs into the Secret of storage.existingSecret" (hasPrefix "CHURN_" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-platform.validate.servers" }}
{{- with .Values.postgresql }}
{{- if and .host .trial.enabled }}
postgresql.host is {{ .host | quote }} and postgresql.trial.enabled is true: set only one of them
{{- else if not (or .host .trial.enabled) }}
postgresql.host is empty: set the host of a PostgreSQL, or for a trial postgresql.trial.enabled=true
{{- end }}
{{- end }}
{{- with .Values.mlflow.trackingUri }}
{{- if not (regexMatch "^(https?://.|databricks)" .) }}
mlflow.trackingUri is {{ . | quote }}: set https://..., or leave it empty for the chart's server
{{- end }}
{{- if regexMatch "://[^/]*@" . }}
mlflow.trackingUri has a password: put it into the Secret of mlflow.existingSecret
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-platform.validate.secrets" }}
{{- if not .Values.postgresql.existingSecret }}
postgresql.existingSecret is empty: set a Secret with the entries username and password{{ if .Values.postgresql.trial.enabled }} and postgres-password{{ end }}
{{- end }}
{{- if not (or .Values.mlflow.existingSecret .Values.mlflow.trackingUri) }}
mlflow.existingSecret is empty: set a Secret with the entries username, password and flask-secret-key
{{- end }}
{{- if not .Values.webserver.passwordsSecret }}
webserver.passwordsSecret is empty, and the UI starts runs and promotes models: set a Secret with an entry for each user, its password
{{- end }}
{{- with .Values.settingsSecret }}
{{- if and .entries (not .name) }}
settingsSecret.entries has {{ join ", " .entries }} and settingsSecret.name is empty: set the Secret with these entries
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-platform.validate.network" }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
ingress.hosts is empty: set the host names of the UI
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tls) (not .Values.ingress.annotations) }}
ingress.tls is empty: passwords would be readable on their way; set a certificate, or the annotations of a proxy that ends TLS
{{- end }}
{{- with .Values.networkPolicy }}
{{- if .enabled }}
{{- if and $.Values.ingress.enabled (not (or .gateway.namespaceLabels .gateway.podLabels)) }}
networkPolicy.gateway is empty and ingress.enabled is true: set the labels of the gateway's namespace, or it cannot reach the UI
{{- end }}
{{- if and $.Values.postgresql.host (not .postgresql) }}
networkPolicy.postgresql is empty: allow the address of postgresql.host, as in [{to: [{ipBlock: {cidr: 10.1.0.0/16}}], ports: [{port: 5432}]}]
{{- end }}
{{- if and (or $.Values.storage.url $.Values.mlflow.trackingUri) (not .extraEgress) }}
networkPolicy.extraEgress is empty: allow the addresses of storage.url and mlflow.trackingUri
{{- end }}
{{- if not (or .dns.namespaceLabels .dns.podLabels) }}
networkPolicy.dns is empty: no pod could resolve a name; set the labels of the DNS pods
{{- end }}
{{- end }}
{{- end }}
{{- end }}
