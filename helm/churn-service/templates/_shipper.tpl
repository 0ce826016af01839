{{/* Native sidecar that brings the prediction log to its store: it starts before the service and ends after it. */}}
{{- define "churn-service.shipper" -}}
{{- with .Values.predictionLog.shipping -}}
- name: prediction-log-shipper
  restartPolicy: Always
  image: {{ include "churn-service.image" .image }}
  imagePullPolicy: {{ .image.pullPolicy }}
  command: [python3, -m, prediction_log_shipper]
  securityContext: {{- include "churn-service.containerSecurity" $ | nindent 4 }}
  env:
    - name: CHURN_SHIP_FOLDER
      value: /var/log/churn
    - name: CHURN_SHIP_URL
      value: {{ .url | quote }}
    - name: CHURN_SHIP_POD_INFO
      value: /etc/podinfo
    - name: CHURN_SHIP_INTERVAL
      value: {{ .intervalSeconds | quote }}
    - name: CHURN_SHIP_MAX_BYTES
      value: {{ int64 .maxBytes | quote }}
    - name: CHURN_SHIP_STOP_SECONDS
      value: {{ .stopSeconds | quote }}
    {{- with .extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .existingSecret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  # The file exists once the settings are right: a pod with wrong ones serves nobody.
  startupProbe:
    exec:
      command: [test, -f, /var/log/churn/shipper.json]
    periodSeconds: 1
    failureThreshold: 60
  resources: {{- toYaml .resources | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    - name: prediction-log
      mountPath: /var/log/churn
    - name: pod-info
      mountPath: /etc/podinfo
      readOnly: true
    {{- include "churn-service.logStoreMounts" . | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* How containers reach the store, from the values of the shipper. */}}
{{- define "churn-service.logStoreMounts" -}}
{{- if .existingSecret -}}
- name: log-store-credentials
  mountPath: /etc/churn/log-store
  readOnly: true
{{ end }}
{{- if .existingClaim -}}
- name: prediction-store
  mountPath: /predictions
{{- end }}
{{- end -}}

{{- define "churn-service.logStoreVolumes" -}}
{{- with .Values.predictionLog.shipping -}}
{{- with .existingSecret -}}
- name: log-store-credentials
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{ end }}
{{- with .existingClaim -}}
- name: prediction-store
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Size of the log's emptyDir. 64 MiB a worker more: a file is closed only after the batch that fills it. */}}
{{- define "churn-service.logMebibytes" -}}
{{- $workers := .Values.config.workers -}}
{{- with .Values.predictionLog -}}
{{- if .shipping.enabled -}}
{{- add (div (int64 .shipping.maxBytes) 1048576) (mul $workers (div (int64 .fileBytes) 1048576 | add 64)) -}}
{{- else -}}
{{- mul $workers (div (mul (int64 .fileBytes) .files) 1048576 | add 64) -}}
{{- end -}}
{{- end -}}
{{- end -}}
