{{/* Refuses values with all their problems at once. The schema has refused wrong types and unknown keys. */}}
{{- define "churn-service.validate" -}}
{{- $lines := list -}}
{{- range $rule := list "images" "keys" "model" "shipping" "scaling" "stopping" "strategy" "analysis" "network" "routes" "secrets" "workloads" "crds" -}}
{{- range include (printf "churn-service.validate.%s" $rule) $ | splitList "\n" -}}
{{- with trim . }}{{ $lines = append $lines (printf "  - %s" .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $lines -}}
{{- printf "\n\nthe values are refused, nothing was changed:\n%s\n" (join "\n" $lines) | fail -}}
{{- end -}}
{{- end -}}

{{/* Each rule below writes one line a problem. */}}
{{- define "churn-service.validate.images" }}
{{- $images := dict "image" .Values.image }}
{{- if eq .Values.model.source "archive" }}
{{- $images = set $images "model.archive.image" .Values.model.archive.image }}
{{- end }}
{{- if and .Values.predictionLog.enabled .Values.predictionLog.shipping.enabled }}
{{- $images = set $images "predictionLog.shipping.image" .Values.predictionLog.shipping.image }}
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

{{- define "churn-service.validate.keys" }}
{{- with .Values.auth }}
{{- if and .existingSecret .keys }}
auth.existingSecret is {{ .existingSecret | quote }} and auth.keys has {{ len .keys }} entries: set only one of them
{{- else if not (or .existingSecret .keys) }}
auth.existingSecret and auth.keys are empty, and the service needs a key file: set auth.existingSecret to a Secret with the entry {{ .existingSecretKey | quote }}, or for a trial --set-json "auth=$(cat keys.json)" with the file of `make api-key`
{{- end }}
{{- $ids := list }}
{{- range .keys }}
{{- if has .id $ids }}
auth.keys has the id {{ .id | quote }} twice: the ids of keys must be unique
{{- end }}
{{- $ids = append $ids .id }}
{{- end }}
{{- end }}
{{- range $at, $variable := concat .Values.extraEnv }}
{{- if hasPrefix "CHURN_API_" $variable.name }}
extraEnv[{{ $at }}].name is {{ $variable.name | quote }}: set the value of `config`, `predictionLog`, `auth` or `idKey` that stands for it
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.model" }}
{{- with .Values.model.archive }}
{{- if eq $.Values.model.source "archive" }}
{{- if not (regexMatch "^(s3|gs|https?|file)://." .url) }}
model.archive.url is {{ .url | quote }}: set an address with s3://, gs://, https://, http:// or file://
{{- end }}
{{- if not (regexMatch "^[0-9a-fA-F]{64}$" .sha256) }}
model.archive.sha256 is {{ .sha256 | trunc 80 | quote }}: set the 64 hex digits that `sha256sum` prints for the archive
{{- end }}
{{- if not .contract }}
model.archive.contract is empty: set the contract of the bento, such as telecom
{{- end }}
{{- if and (hasPrefix "file://" .url) (not .existingClaim) }}
model.archive.url is {{ .url | quote }} without a volume: set model.archive.existingClaim to the PersistentVolumeClaim with the archive
{{- end }}
{{- if and (hasPrefix "file://" .url) (not (hasPrefix "file:///archives/" .url)) }}
model.archive.url is {{ .url | quote }}: the volume is mounted at /archives, so set file:///archives/...
{{- end }}
{{- if ge (int64 .timeoutSeconds) (int64 $.Values.progressDeadlineSeconds) }}
progressDeadlineSeconds is {{ $.Values.progressDeadlineSeconds }}: set more than model.archive.timeoutSeconds, which is {{ .timeoutSeconds }}
{{- end }}
{{- end }}
{{- if and (ne $.Values.model.source "archive") .url }}
model.archive.url is {{ .url | quote }} and model.source is {{ $.Values.model.source | quote }}: set model.source=archive, or leave out the address
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.shipping" }}
{{- $claim := .Values.predictionLog.existingClaim }}
{{- $enabled := .Values.predictionLog.enabled }}
{{- $fileBytes := int64 .Values.predictionLog.fileBytes }}
{{- with .Values.predictionLog.shipping }}
{{- if .enabled }}
{{- if not $enabled }}
predictionLog.shipping.enabled is true and predictionLog.enabled is false: enable both, or none
{{- end }}
{{- if $claim }}
predictionLog.shipping.enabled is true and predictionLog.existingClaim is {{ $claim | quote }}: pods must not share unshipped files, so leave out the claim, or the shipping
{{- end }}
{{- if not (regexMatch "^(s3|gs|file)://." .url) }}
predictionLog.shipping.url is {{ .url | quote }}: set an address with s3://, gs:// or file://
{{- end }}
{{- if and (hasPrefix "file://" .url) (not .existingClaim) }}
predictionLog.shipping.url is {{ .url | quote }} without a volume: set predictionLog.shipping.existingClaim
{{- end }}
{{- if and (hasPrefix "file://" .url) (not (hasPrefix "file:///predictions" .url)) }}
predictionLog.shipping.url is {{ .url | quote }}: the volume is mounted at /predictions, so set file:///predictions...
{{- end }}
{{- if lt (int64 .maxBytes) $fileBytes }}
predictionLog.shipping.maxBytes is {{ int64 .maxBytes }}: set at least predictionLog.fileBytes, which is {{ $fileBytes }}
{{- end }}
{{- else if .url }}
predictionLog.shipping.url is {{ .url | quote }} and predictionLog.shipping.enabled is false: enable it, or leave out the address
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.scaling" }}
{{- $replicas := include "churn-service.replicas" . | int }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
autoscaling.minReplicas is {{ .minReplicas }}: set at most autoscaling.maxReplicas, which is {{ .maxReplicas }}
{{- end }}
{{- if not (or .targetCPUUtilizationPercentage .requestsPerSecond.target) }}
autoscaling.targetCPUUtilizationPercentage and autoscaling.requestsPerSecond.target are empty: set at least one of them
{{- end }}
{{- $requests := ($.Values.resources).requests | default dict }}
{{- if and .targetCPUUtilizationPercentage (not $requests.cpu) }}
resources.requests.cpu is empty: autoscaling.targetCPUUtilizationPercentage is a share of it, so set it
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- if .enabled }}
{{- $hasMin := not (kindIs "invalid" .minAvailable) }}
{{- $hasMax := not (kindIs "invalid" .maxUnavailable) }}
{{- if eq $hasMin $hasMax }}
podDisruptionBudget.minAvailable is {{ .minAvailable | default "empty" }} and podDisruptionBudget.maxUnavailable is {{ .maxUnavailable | default "empty" }}: set exactly one of them, the other to null
{{- end }}
{{- if $hasMin }}
{{- $percent := hasSuffix "%" (toString .minAvailable) }}
{{- $pods := ternary (ceil (divf (mulf (trimSuffix "%" (toString .minAvailable) | float64) $replicas) 100)) (toString .minAvailable | float64) $percent }}
{{- if ge $pods (float64 $replicas) }}
podDisruptionBudget.minAvailable is {{ .minAvailable }} of {{ $replicas }} pods, so no node could ever be drained: set less, or more pods
{{- end }}
{{- end }}
{{- if and $hasMax (has (toString .maxUnavailable) (list "0" "0%")) }}
podDisruptionBudget.maxUnavailable is {{ .maxUnavailable }}, so no node could ever be drained: set at least 1
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.stopping" }}
{{- $needed := include "churn-service.stopSeconds" . | int }}
{{- with .Values.terminationGracePeriodSeconds }}
{{- if lt (int .) $needed }}
terminationGracePeriodSeconds is {{ . }}: set at least {{ $needed }} (preStopSleepSeconds + config.drainSeconds + config.timeoutSeconds + 20{{ if $.Values.predictionLog.shipping.enabled }} + predictionLog.shipping.stopSeconds{{ end }}), or null
{{- end }}
{{- end }}
{{- with .Values.config }}
{{- if ge (addf .drainSeconds .timeoutSeconds) 30.0 }}
config.drainSeconds + config.timeoutSeconds is {{ addf .drainSeconds .timeoutSeconds }}: set less than 30, for BentoML kills a worker 30 s after the signal
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.network" }}
{{- with .Values.networkPolicy }}
{{- if .enabled }}
{{- $gateway := or .gateway.namespaceLabels .gateway.podLabels .extraIngress }}
{{- if and (or $.Values.httpRoute.enabled $.Values.ingress.enabled) (not $gateway) }}
networkPolicy.gateway is empty, so the gateway would not reach the pods: set networkPolicy.gateway.namespaceLabels, such as kubernetes.io/metadata.name: traefik
{{- end }}
{{- $prometheus := or .prometheus.namespaceLabels .prometheus.podLabels .extraIngress }}
{{- if and (or $.Values.metrics.serviceMonitor.enabled $.Values.metrics.scrapeAnnotations) (not $prometheus) }}
networkPolicy.prometheus is empty, so Prometheus would not reach the pods: set networkPolicy.prometheus.namespaceLabels, such as kubernetes.io/metadata.name: monitoring
{{- end }}
{{- if and (eq $.Values.model.source "archive") (not (or .modelStore .extraEgress (hasPrefix "file://" $.Values.model.archive.url))) }}
networkPolicy.modelStore is empty, so the init container would not reach the store: set its addresses and ports
{{- end }}
{{- $shipping := $.Values.predictionLog.shipping }}
{{- if and $shipping.enabled (not (or .predictionStore .extraEgress (hasPrefix "file://" $shipping.url))) }}
networkPolicy.predictionStore is empty, so the prediction log would not reach its store: set its addresses and ports
{{- end }}
{{- if and $.Values.config.otlpEndpoint (not .extraEgress) }}
networkPolicy.extraEgress is empty, so no trace would reach config.otlpEndpoint: set the address and port of the collector
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.routes" }}
{{- with .Values.httpRoute }}
{{- if and .enabled (not .parentRefs) }}
httpRoute.parentRefs is empty: set the Gateway, as in [{name: public, namespace: gateway}]
{{- end }}
{{- if and .enabled $.Values.ingress.enabled (not .hostnames) }}
httpRoute.hostnames is empty and ingress.enabled is true, so both would answer for the same hosts: set the hosts of each, or enable only one
{{- end }}
{{- end }}
{{- with .Values.ingress }}
{{- if and .enabled (not .hosts) }}
ingress.hosts is empty: set the hosts, such as [churn.example.com]
{{- end }}
{{- end }}
{{- with .Values.metrics.serviceMonitor }}
{{- if and .enabled (eq $.Values.config.metrics "admin") (not .existingSecret) }}
metrics.serviceMonitor.existingSecret is empty and config.metrics is "admin": set a Secret with an API key of the role admin
{{- end }}
{{- end }}
{{- end }}

{{/* `lookup` finds nothing under `helm template`, in a dry run, under GitOps, and in a namespace that does not exist yet. */}}
{{- define "churn-service.validate.secrets" }}
{{- if lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $secrets := list (list "auth" .Values.auth.existingSecret .Values.auth.existingSecretKey) }}
{{- $secrets = append $secrets (list "idKey" .Values.idKey.existingSecret .Values.idKey.existingSecretKey) }}
{{- $secrets = append $secrets (list "tests" .Values.tests.existingSecret .Values.tests.existingSecretKey) }}
{{- with .Values.metrics.serviceMonitor }}
{{- if .enabled }}
{{- $secrets = append $secrets (list "metrics.serviceMonitor" .existingSecret .existingSecretKey) }}
{{- end }}
{{- end }}
{{- if eq .Values.model.source "archive" }}
{{- $secrets = append $secrets (list "model.archive" .Values.model.archive.existingSecret "") }}
{{- end }}
{{- if .Values.predictionLog.shipping.enabled }}
{{- $secrets = append $secrets (list "predictionLog.shipping" .Values.predictionLog.shipping.existingSecret "") }}
{{- end }}
{{- range $secrets }}
{{- $value := index . 0 }}{{ $name := index . 1 }}{{ $entry := index . 2 }}
{{- if $name }}
{{- $found := lookup "v1" "Secret" $.Release.Namespace $name }}
{{- if not $found }}
{{ $value }}.existingSecret is {{ $name | quote }}, and namespace {{ $.Release.Namespace | quote }} has no such Secret: create it first{{ if $entry }}, with the entry {{ $entry | quote }}{{ end }}
{{- else if and $entry (not (hasKey ($found.data | default dict) $entry)) }}
{{ $value }}.existingSecretKey is {{ $entry | quote }}, and the Secret {{ $name | quote }} has only {{ $found.data | default dict | keys | sortAlpha | join ", " | quote }}: set one of its entries
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.crds" }}
{{- $strategy := .Values.strategy.type }}
{{- $rolling := eq $strategy "rolling" }}
{{- $traefik := include "churn-service.traefik" . }}
{{- $crds := list (list "httpRoute.enabled" .Values.httpRoute.enabled "gateway.networking.k8s.io/v1/HTTPRoute" "install the Gateway API, or set ingress.enabled=true instead") }}
{{- $monitor := printf "monitoring.coreos.com/v1/%s" (ternary "ServiceMonitor" "PodMonitor" $rolling) }}
{{- $crds = append $crds (list "metrics.serviceMonitor.enabled" .Values.metrics.serviceMonitor.enabled $monitor "install the Prometheus operator, or set metrics.scrapeAnnotations=true instead") }}
{{- $crds = append $crds (list "strategy.type" (not $rolling) "argoproj.io/v1alpha1/Rollout" "install Argo Rollouts, or set strategy.type=rolling instead") }}
{{- $crds = append $crds (list "strategy.canary.trafficRouting.provider" $traefik "traefik.io/v1alpha1/TraefikService" "install Traefik's CRDs, or set gatewayAPI instead") }}
{{- range $crds }}
{{- if and (index . 1) (not ($.Capabilities.APIVersions.Has (index . 2))) }}
{{ index . 0 }} is {{ get (dict "strategy.type" $strategy "strategy.canary.trafficRouting.provider" "traefik") (index . 0) | default "true" }}, and the cluster has no {{ index . 2 }}: {{ index . 3 }} (`helm template` needs --api-versions {{ index . 2 }})
{{- end }}
{{- end }}
{{- end }}
