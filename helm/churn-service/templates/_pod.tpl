{{/*
The pod template of Deployment and Rollout. `hashLabel` of the context is the label by which the controller
tells the pods of two templates apart.
*/}}
{{- define "churn-service.podTemplate" -}}
{{- $archive := .Values.model.archive }}
{{- $fetched := eq .Values.model.source "archive" }}
{{- $shipping := and .Values.predictionLog.enabled .Values.predictionLog.shipping.enabled }}
metadata:
  labels:
    {{- include "churn-service.podLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: churn
    {{- if $fetched }}
    churn/model-sha256: {{ lower $archive.sha256 | quote }}
    {{- end }}
    {{- if .Values.metrics.scrapeAnnotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "3000"
    prometheus.io/path: /metrics
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "churn-service.serviceAccountName" . }}
  automountServiceAccountToken: false
  # A Service named churn-api would set variables CHURN_API_..., which the service refuses.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds | default (include "churn-service.stopSeconds" .) }}
  securityContext: {{- include "churn-service.podSecurity" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $constraint := deepCopy . }}
    {{- if not (hasKey . "labelSelector") }}
    {{- $labels := include "churn-service.selectorLabels" $ | fromYaml }}
    {{- $constraint = set $constraint "labelSelector" (dict "matchLabels" $labels) }}
    {{- end }}
    {{- if has "pod-template-hash" ($constraint.matchLabelKeys | default list) }}
    {{- $keys := append (without $constraint.matchLabelKeys "pod-template-hash") $.hashLabel }}
    {{- $constraint = set $constraint "matchLabelKeys" $keys }}
    {{- end }}
    - {{- toYaml $constraint | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- if or $fetched $shipping }}
  initContainers:
    {{- if $shipping }}
    {{- include "churn-service.shipper" . | nindent 4 }}
    {{- end }}
    {{- if $fetched }}
    {{- include "churn-service.fetcher" . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: churn
      image: {{ include "churn-service.image" .Values.image }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [bentoml, serve, /bento, --host, 0.0.0.0, --port, "3000", --timeout-keep-alive, {{ .Values.config.keepAliveSeconds | quote }}]
      securityContext: {{- include "churn-service.containerSecurity" . | nindent 8 }}
      ports:
        - name: http
          containerPort: 3000
      env:
        {{- range $name, $value := include "churn-service.env" . | fromYaml }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      startupProbe: {{- toYaml .Values.startupProbe | nindent 8 }}
        httpGet: {path: /livez, port: http}
      readinessProbe: {{- toYaml .Values.readinessProbe | nindent 8 }}
        httpGet: {path: /readyz, port: http}
      livenessProbe: {{- toYaml .Values.livenessProbe | nindent 8 }}
        httpGet: {path: /livez, port: http}
      {{- if .Values.preStopSleepSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSleepSeconds }}
      {{- end }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: home
          mountPath: /var/lib/churn
        # A folder, not a subPath: a subPath would never show a new key.
        - name: keys
          mountPath: /etc/churn/keys
          readOnly: true
        {{- if .Values.idKey.existingSecret }}
        - name: id-key
          mountPath: /etc/churn/id
          readOnly: true
        {{- end }}
        {{- if .Values.predictionLog.enabled }}
        - name: prediction-log
          mountPath: /var/log/churn
        - name: pod-info
          mountPath: /etc/podinfo
          readOnly: true
        {{- end }}
        {{- if $fetched }}
        - name: model
          mountPath: /bento
          subPath: bento
          readOnly: true
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ .Values.volumes.tmpSizeLimit }}
    - name: home
      emptyDir:
        sizeLimit: {{ .Values.volumes.homeSizeLimit }}
    - name: keys
      secret:
        secretName: {{ include "churn-service.keysSecret" . }}
        defaultMode: 0440
        items:
          - key: {{ ternary .Values.auth.existingSecretKey "keys.json" (not (empty .Values.auth.existingSecret)) }}
            path: keys.json
    {{- if .Values.idKey.existingSecret }}
    {{- include "churn-service.idKeyVolume" . | nindent 4 }}
    {{- end }}
    {{- if .Values.predictionLog.enabled }}
    - name: prediction-log
      {{- with .Values.predictionLog.existingClaim }}
      persistentVolumeClaim:
        claimName: {{ . }}
      {{- else }}
      emptyDir:
        sizeLimit: {{ include "churn-service.logMebibytes" . }}Mi
      {{- end }}
    - name: pod-info
      downwardAPI:
        defaultMode: 0444
        items:
          - path: pod
            fieldRef: {fieldPath: metadata.name}
          - path: release
            fieldRef: {fieldPath: "metadata.labels['app.kubernetes.io/instance']"}
          - path: template-hash
            fieldRef: {fieldPath: "metadata.labels['{{ .hashLabel }}']"}
          # The label changes on a running pod, when a canary becomes stable.
          - path: role
            fieldRef: {fieldPath: "metadata.labels['churn/role']"}
    {{- end }}
    {{- if $shipping }}
    {{- include "churn-service.logStoreVolumes" . | nindent 4 }}
    {{- end }}
    {{- if $fetched }}
    {{- include "churn-service.fetcherVolumes" . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "churn-service.idKeyVolume" -}}
- name: id-key
  secret:
    secretName: {{ .Values.idKey.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.idKey.existingSecretKey }}
        path: id.key
{{- end -}}
