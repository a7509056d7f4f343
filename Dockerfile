# vindr-det in a container, without Detectron2.
#
#   docker build -t vindr-det .                                            for CPUs
#   docker build -t vindr-det:cuda --build-arg TORCH=cu128 .               for NVIDIA's GPUs
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/data -w /data vindr-det \
#       predict --weights model_best.pth --images dicoms --out S.csv
#
# --user makes you the owner of what is written: the image's own user may not write to your folder. HOME and USER are
# for libraries that keep caches, whoever runs it.
#
# PyTorch's wheels bring the CUDA libraries, so that a plain Python image serves for both. BASE takes another image
# that has Python 3.10 to 3.13, such as one of nvidia/cuda with Python installed.
ARG BASE=python:3.11-slim
FROM ${BASE}

# cpu, or a build of CUDA that PyTorch offers: cu126, cu128, ... (values of uv's --torch-backend)
ARG TORCH=cpu
ENV VIRTUAL_ENV=/opt/vindr PATH=/opt/vindr/bin:$PATH PYTHONUNBUFFERED=1

RUN python3 -m venv /opt/vindr && pip install --no-cache-dir uv \
 && uv pip install --no-cache --torch-backend "${TORCH}" torch torchvision

COPY . /src
RUN uv pip install --no-cache --torch-backend "${TORCH}" /src && rm -rf /src && useradd --create-home vindr
USER vindr
ENV HOME=/tmp USER=vindr
ENTRYPOINT ["vindr-det"]
CMD ["--help"]
