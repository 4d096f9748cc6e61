{{- /* Parts of a Pod. Argument unless noted otherwise: dict of root, component and values (the chart's section). */ -}}

{{- /* OpenShift assigns user ids to each namespace and rejects others. */ -}}
{{- define "istio.podSecurityContext" -}}
runAsNonRoot: true
{{- if ne .root.Values.global.platform "openshift" }}
runAsUser: 1337
runAsGroup: 1337
fsGroup: 1337
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "istio.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Image and pull policy of the container. */ -}}
{{- define "istio.containerImage" -}}
image: {{ include "istio.image" (dict "root" .root "image" .values.image) | quote }}
{{- with .root.Values.global.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end -}}

{{- /* Scheduling, and secrets to pull images. */ -}}
{{- define "istio.scheduling" -}}
{{- with .root.Values.global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.affinity }}
affinity:
  {{- toYaml .values.affinity | nindent 2 }}
{{- else if gt (int (include "istio.guaranteedReplicas" .values)) 1 }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "istio.selector" . | nindent 12 }}
{{- end }}
{{- end -}}

{{- /* Flags of every process. Argument: root. */ -}}
{{- define "istio.logArgs" -}}
- --log_output_level={{ .Values.global.logging.level }}
{{- if .Values.global.logAsJson }}
- --log_as_json=true
{{- end }}
{{- end -}}

{{- /* Environment of every process. */ -}}
{{- define "istio.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- range $name, $value := .values.env }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end -}}

{{- /* Health checks over HTTP. Readiness is checked often, so that a component is used as soon as it has its
certificate. */ -}}
{{- define "istio.probes" -}}
readinessProbe:
  httpGet:
    path: /ready
    port: http-monitoring
  initialDelaySeconds: 1
  periodSeconds: 3
  timeoutSeconds: 5
livenessProbe:
  httpGet:
    path: /healthz
    port: http-monitoring
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- /* Nodes and API servers learn of a Pod's termination with a delay. Connections that they open in the meantime would
fail, and webhook calls with them, so the Pod keeps serving for that time. */ -}}
{{- define "istio.preStop" -}}
{{- with int .values.preStopSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end -}}

{{- /* Termination grace period, which includes the delay of `istio.preStop`. */ -}}
{{- define "istio.gracePeriod" -}}
terminationGracePeriodSeconds: {{ add 30 (int .values.preStopSeconds) }}
{{- end -}}

{{- /* The certificate of the component. The Secret may be created later: the process waits for it. */ -}}
{{- define "istio.certificateVolume" -}}
{{- $certs := .values.certs -}}
name: istio-certs
secret:
  secretName: {{ $certs.secretName | default (printf "istio.%s" (include "istio.serviceAccountName" .)) }}
  optional: true
  {{- if $certs.secretName }}
  items:
  - key: {{ $certs.keys.cert }}
    path: cert-chain.pem
  - key: {{ $certs.keys.key }}
    path: key.pem
  - key: {{ $certs.keys.ca }}
    path: root-cert.pem
  {{- end }}
{{- end -}}
