{{- /* A Pod of `helm test`: checks the readiness of the component through its Service, with pilot-agent of the proxy's
image, as the images have no shell. Argument: dict of root, component, name and url. */ -}}
{{- define "istio.testPod" -}}
{{- $global := .root.Values.global -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .name }}-test
  namespace: {{ .root.Release.Namespace }}
  labels:
    app.kubernetes.io/part-of: istio
    sidecar.istio.io/inject: "false"
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
    sidecar.istio.io/inject: "false"
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  {{- with $global.imagePullSecrets }}
  imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
  {{- end }}
  securityContext:
    {{- include "istio.podSecurityContext" . | nindent 4 }}
  containers:
  - name: ready
    image: {{ include "istio.image" (dict "root" .root "image" $global.proxy.image) | quote }}
    {{- with $global.imagePullPolicy }}
    imagePullPolicy: {{ . }}
    {{- end }}
    command: [/usr/local/bin/pilot-agent]
    args:
    - wait
    - --timeoutSeconds=60
    - --requestTimeoutMillis=5000
    - --url={{ .url }}
    resources:
      requests:
        cpu: 10m
        memory: 32Mi
    securityContext:
      {{- include "istio.containerSecurityContext" . | nindent 6 }}
{{- end -}}
