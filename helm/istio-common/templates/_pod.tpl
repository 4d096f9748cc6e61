{{- /* Pieces of a Pod. Argument of all, unless said: dict of root, component and values (the chart's section). */ -}}

{{- /* OpenShift gives every namespace users of its own and refuses others. */ -}}
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

{{- /* Where Pods run, and what they are pulled with. */ -}}
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

{{- /* Health over HTTP. Readiness is asked often: a component waits for its certificate, and nobody is to wait
for the next look after that. */ -}}
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

{{- /* Not everybody knows at once that a Pod is going: a connection that is made meanwhile would be lost in it, and the
object of an API server with that. Until they know it goes on serving. */ -}}
{{- define "istio.preStop" -}}
{{- with int .values.preStopSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end -}}

{{- /* How long a Pod may take to end: what `istio.preStop` waits for comes out of it, too. */ -}}
{{- define "istio.gracePeriod" -}}
terminationGracePeriodSeconds: {{ add 30 (int .values.preStopSeconds) }}
{{- end -}}

{{- /* The certificate of the component. The Secret may come later: the process waits for it. */ -}}
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
